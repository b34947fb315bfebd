package states

import (
	"context"
	"errors"
	"fmt"

	"github.com/qnet-vm/qnet/internal/legible"
)

// Disks are the writable images of a guest, by QEMU's names of their nodes. All are qcow2.
// The first one has the memory, too.
type Disks []string

// ErrNoDisk tells that a guest has no image that could hold a snapshot.
var ErrNoDisk = errors.New("the guest has no disk of format qcow2 that it writes to")

// TakeSnapshot saves the guest and its disks within these under a tag that they do not have
// yet. QEMU stops the guest meanwhile.
func TakeSnapshot(ctx context.Context, m Monitor, tag string, disks Disks) error {
	return job(ctx, m, "snapshot-save", tag, disks)
}

// RestoreSnapshot puts the guest and its disks back. The caller has stopped the guest, and
// lets it go on: after an error it is not to, because its disks may be another time's than
// its memory.
func RestoreSnapshot(ctx context.Context, m Monitor, tag string, disks Disks) error {
	return job(ctx, m, "snapshot-load", tag, disks)
}

// DeleteSnapshot removes a snapshot from all disks.
func DeleteSnapshot(ctx context.Context, m Monitor, tag string, disks Disks) error {
	return job(ctx, m, "snapshot-delete", tag, disks)
}

// job runs one of QEMU's jobs on snapshots to its end.
func job(ctx context.Context, m Monitor, command, tag string, disks Disks) error {
	if len(disks) == 0 {
		return ErrNoDisk
	}
	const id = "states"
	args := map[string]any{"job-id": id, "tag": tag, "devices": disks}
	if command != "snapshot-delete" {
		args["vmstate"] = disks[0]
	}
	if err := m.Execute(ctx, command, args, nil); err != nil {
		return err
	}
	// A job that has begun goes on without us: only its end tells what the guest is.
	ctx = context.WithoutCancel(ctx)
	for {
		var jobs []struct {
			ID     string `json:"id"`
			Status string `json:"status"`
			Error  string `json:"error"`
		}
		if err := m.Execute(ctx, "query-jobs", nil, &jobs); err != nil {
			return err
		}
		for _, j := range jobs {
			if j.ID != id || j.Status != "concluded" {
				continue
			}
			err := m.Execute(ctx, "job-dismiss", map[string]string{"id": id}, nil)
			if j.Error != "" {
				err = fmt.Errorf("%s: %s", command, legible.Text(j.Error))
			}
			return err
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// Snapshot is one that a disk has.
type Snapshot struct {
	Tag    string `json:"name"`
	Memory int64  `json:"vm-state-size"` // bytes; 0 without the guest's memory
	Made   int64  `json:"date-sec"`      // Unix time, in seconds
}

// Snapshots returns those of the first disk.
func Snapshots(ctx context.Context, m Monitor, disks Disks) ([]Snapshot, error) {
	if len(disks) == 0 {
		return nil, ErrNoDisk
	}
	var nodes []struct {
		Name  string `json:"node-name"`
		Image struct {
			Snapshots []Snapshot `json:"snapshots"`
		} `json:"image"`
	}
	if err := m.Execute(ctx, "query-named-block-nodes", map[string]bool{"flat": true}, &nodes); err != nil {
		return nil, err
	}
	for _, n := range nodes {
		if n.Name == disks[0] {
			return n.Image.Snapshots, nil
		}
	}
	return nil, fmt.Errorf("QEMU has no disk %q", disks[0])
}
