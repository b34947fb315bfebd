package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/hardware"
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/qemu/imagelock"
)

// fileChecks are about the profile's files, qnet's own, and what dead processes left.
var fileChecks = []Check{
	{Name: "files", Modes: all, Run: checkFiles},
	{Name: "directories", Modes: all, Run: checkDirectories},
	{Name: "leftovers", Run: checkLeftovers},
}

// checkFiles opens the profile's files as a run does, and looks who uses its disks.
func checkFiles(_ context.Context, h *Host) []Finding {
	if h.Profile == nil {
		return one(Pass, "", "no profile names any")
	}
	err := hardware.Refusal(h.Profile, h.Files)
	var used *imagelock.Error
	switch {
	case err == nil:
		return one(Pass, "", "a run can open kernel, initrd and disks")
	case errors.As(err, &used) && usedBy(used, h.Profile.Name):
		return one(Pass, "", "VM %s runs, and has its disks", h.Profile.Name)
	case used != nil:
		return one(Fail, "stop what uses it; VMs share an image only where each of them has it readonly or with snapshot", "%s", err)
	}
	remedy := "mend the profile, or the file"
	var own interface{ Hint() string }
	if errors.As(err, &own) && own.Hint() != "" {
		remedy = own.Hint()
	}
	return one(Fail, remedy, "%s", err)
}

// usedBy reports whether the VM alone uses the image.
func usedBy(used *imagelock.Error, vm string) bool {
	return len(used.Holders) > 0 && !slices.ContainsFunc(used.Holders, func(h imagelock.Holder) bool { return h.Guest != vm })
}

func checkDirectories(_ context.Context, h *Host) []Finding {
	var list []Finding
	for _, dir := range []string{h.RunDir, h.StateDir} {
		if err := writable(dir); err != nil {
			status := Fail
			if !h.admin {
				status = Unseen // they belong to root, who can write them
			}
			list = append(list, one(status, "sudo, or --run-dir and --state-dir", "%s", err)...)
		}
	}
	longest := filepath.Join(h.RunDir, "networks", strings.Repeat("n", 31), "keeper.sock")
	if len(longest) > rundir.MaxSocketPath {
		list = append(list, one(Warn, "use a shorter --run-dir", "sockets below %s may have too long a path (%d bytes, %d fit)", h.RunDir, len(longest), rundir.MaxSocketPath)...)
	}
	if list == nil {
		return one(Pass, "", "%s and %s can be written", h.RunDir, h.StateDir)
	}
	return list
}

// checkLeftovers reports what qnet gc would remove.
func checkLeftovers(_ context.Context, h *Host) []Finding {
	left, err := keeper.Left(h.RunDir)
	if err != nil {
		return one(Unseen, "sudo qnet doctor", "%s", err)
	}
	vms, err := rundir.VMs(h.RunDir)
	if err != nil {
		return one(Unseen, "sudo qnet doctor", "list VMs: %s", err)
	}
	for _, vm := range vms {
		if lives, err := vm.Lives(); err == nil && !lives {
			left = append(left, "VM "+vm.Name)
		}
	}
	if len(left) > 0 {
		return one(Warn, "qnet gc", "dead processes left %s", strings.Join(left, ", "))
	}
	return one(Pass, "", "none")
}

var errUnwritable = errors.New("it cannot be written")

// writable is the reason why the caller cannot write a directory or, if that is missing,
// the nearest one above it.
func writable(dir string) error {
	for {
		info, err := os.Stat(dir)
		switch {
		case err == nil && !info.IsDir():
			return fmt.Errorf("%s is no directory", dir)
		case err == nil:
			if unix.Access(dir, unix.W_OK|unix.X_OK) != nil {
				return fmt.Errorf("%s: %w", dir, errUnwritable)
			}
			return nil
		case dir == filepath.Dir(dir):
			return err
		}
		dir = filepath.Dir(dir)
	}
}
