package step

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/managers"
)

var _ = register[ConfigFile]()

// ConfigFile puts a file among the run-time configuration of a program that
// configures links, and has it read that. All networks share the file, and the last
// one removes it; or it is about the network's NIC, and is read when a Reload or
// the program's administrator says so.
type ConfigFile struct {
	Program managers.Program `json:"program"`
	Path    string           `json:"path"`
	Text    string           `json:"text"`
	NIC     bool             `json:"nic,omitempty"`
}

// Do writes the file, unless another network did. A program that fails to read it
// costs a warning and not the network: what it then does is mended.
func (s ConfigFile) Do(ctx context.Context, k Kernel) error {
	now, err := k.ReadConfig(ctx, s.Path)
	switch {
	case err == nil && strings.HasPrefix(now, s.Text):
		return nil
	case err == nil && !strings.HasPrefix(now, managers.Mark):
		return fmt.Errorf("write %s: %w", s.Path, host.ErrNotOurs)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := k.WriteConfig(ctx, s.Path, s.Text); err != nil {
		return err
	}
	if s.NIC {
		return nil
	}
	if err := k.Reload(ctx, s.Program); err != nil {
		k.Warn(fmt.Sprintf("%s may meddle with the links of VMs: %v", s.Program, err))
	}
	return nil
}

// Undo removes the file, if it is ours and no network has links any more.
func (s ConfigFile) Undo(ctx context.Context, k Kernel) error {
	now, err := k.ReadConfig(ctx, s.Path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !strings.HasPrefix(now, managers.Mark) {
		return nil
	}
	if err != nil {
		return err
	}
	links, err := k.ListLinks(ctx)
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.Ours() && !s.NIC {
			return nil // another network's, whose plan has this step too
		}
	}
	if err := k.RemoveConfig(ctx, s.Path); err != nil {
		return err
	}
	if err := k.Reload(ctx, s.Program); err != nil {
		k.Warn(fmt.Sprintf("%s still knows of VMs' links: %v", s.Program, err))
	}
	return nil
}

// Holds reports whether the file is there and ours.
func (s ConfigFile) Holds(ctx context.Context, k Kernel) (bool, error) {
	now, err := k.ReadConfig(ctx, s.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return strings.HasPrefix(now, s.Text), err
}

func (s ConfigFile) String() string {
	words := fmt.Sprintf("install -D -m 644 /dev/stdin %s <<'EOF'\n%sEOF", s.Path, s.Text)
	if s.NIC {
		return words
	}
	return words + "\n" + managers.ReloadCommand(s.Program)
}

// UndoString is the command Undo equals.
func (s ConfigFile) UndoString() string {
	return fmt.Sprintf("rm %s\n%s", s.Path, managers.ReloadCommand(s.Program))
}
