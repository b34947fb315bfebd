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

var _ = Register[ConfigFile]()

// Managers are the programs that configure the host's links.
type Managers interface {
	ReadConfig(ctx context.Context, path string) (string, error) // fs.ErrNotExist where there is no file
	// WriteConfig makes the file's directory, too, where it is missing.
	WriteConfig(ctx context.Context, path, text string) error
	// RemoveConfig removes the file, and the directory if WriteConfig made it.
	RemoveConfig(ctx context.Context, path string) error
	// Reload has the program read its configuration.
	Reload(ctx context.Context, p managers.Program) error
}

// ConfigFile writes a run-time configuration file of a network manager and reloads it.
// Without NIC the file is shared by all networks and the last one removes it. With NIC it
// concerns one link and is read at the next Reload.
type ConfigFile struct {
	Program managers.Program `json:"program"`
	Path    string           `json:"path"`
	Text    string           `json:"text"`
	NIC     bool             `json:"nic,omitempty"`
}

// Do writes the file, unless another network did. If the program cannot read it, Do warns
// and does not fail: the keeper mends what the program then changes.
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
		k.Warn(fmt.Sprintf("%s may change the links of VMs, because it did not read %s: %v; have it read that: %s",
			s.Program, s.Path, err, managers.ReloadCommand(s.Program)))
	}
	return nil
}

// Undo removes the file if it is ours. It leaves a shared file while a network has links.
func (s ConfigFile) Undo(ctx context.Context, k Kernel) error {
	now, err := k.ReadConfig(ctx, s.Path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !strings.HasPrefix(now, managers.Mark) {
		return nil
	}
	if err != nil {
		return err
	}
	if needed, err := s.neededElsewhere(ctx, k); needed || err != nil {
		return err
	}
	if err := k.RemoveConfig(ctx, s.Path); err != nil {
		return err
	}
	if err := k.Reload(ctx, s.Program); err != nil {
		k.Warn(fmt.Sprintf("%s still leaves links alone, because it did not notice that %s is gone: %v; tell it: %s",
			s.Program, s.Path, err, managers.ReloadCommand(s.Program)))
	}
	return nil
}

// neededElsewhere reports whether another network has links, and so this step, too.
func (s ConfigFile) neededElsewhere(ctx context.Context, k Kernel) (bool, error) {
	if s.NIC {
		return false, nil
	}
	links, err := k.ListLinks(ctx)
	for _, l := range links {
		if l.Ours() {
			return true, err
		}
	}
	return false, err
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

// UndoString is the commands that remove the file and reload the program.
func (s ConfigFile) UndoString() string {
	return fmt.Sprintf("rm %s\n%s", s.Path, managers.ReloadCommand(s.Program))
}
