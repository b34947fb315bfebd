package step

import (
	"context"
	"fmt"

	"github.com/qnet-vm/qnet/netsetup/managers"
)

var _ = register[Reload]()

// Reload has a program read what a ConfigFile about the NIC says. Its undo is that
// file's.
type Reload struct {
	Program managers.Program `json:"program"`
}

// Do has it read. A program that cannot costs a warning: it goes on as before.
func (s Reload) Do(ctx context.Context, k Kernel) error {
	if err := k.Reload(ctx, s.Program); err != nil {
		k.Warn(fmt.Sprintf("%s still configures the NIC: %v", s.Program, err))
	}
	return nil
}

// Undo does nothing.
func (s Reload) Undo(context.Context, Kernel) error { return nil }

// Holds is always true: what was read cannot be seen.
func (s Reload) Holds(context.Context, Kernel) (bool, error) { return true, nil }

func (s Reload) String() string { return managers.ReloadCommand(s.Program) }

// UndoString is "".
func (s Reload) UndoString() string { return "" }

// WaitsFor names the program.
func (s Reload) WaitsFor() string { return fmt.Sprintf("%s to read its configuration", s.Program) }
