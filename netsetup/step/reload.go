package step

import (
	"context"
	"fmt"

	"github.com/qnet-vm/qnet/netsetup/managers"
)

var _ = Register[Reload]()

// Reload has a program read what a ConfigFile with NIC says.
type Reload struct {
	Program managers.Program `json:"program"`
}

// Do has the program read its configuration. If that fails, Do warns and does not fail: the
// program goes on as before.
func (s Reload) Do(ctx context.Context, k Kernel) error {
	if err := k.Reload(ctx, s.Program); err != nil {
		k.Warn(fmt.Sprintf("%s still configures the NIC, because it did not read its configuration: %v; have it read that: %s", s.Program, err, s))
	}
	return nil
}

// Undo does nothing: the Undo of ConfigFile reloads the program, too.
func (s Reload) Undo(context.Context, Kernel) error { return nil }

// Holds reports true: the program does not tell what it has read.
func (s Reload) Holds(context.Context, Kernel) (bool, error) { return true, nil }

func (s Reload) String() string { return managers.ReloadCommand(s.Program) }

// UndoString is "": the Undo of ConfigFile does it.
func (s Reload) UndoString() string { return "" }

// WaitsFor names the program.
func (s Reload) WaitsFor() string { return fmt.Sprintf("%s to read its configuration", s.Program) }
