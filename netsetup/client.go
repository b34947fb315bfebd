package netsetup

import (
	"fmt"

	"github.com/qnet-vm/qnet/netsetup/managers"
)

// Reload has a program read what a ConfigFile about the NIC says. Its undo is that
// file's.
type Reload struct {
	Program managers.Program `json:"program"`
}

// Do has it read. A program that cannot costs a warning: it goes on as before.
func (s Reload) Do(k Kernel) error {
	if err := k.Reload(s.Program); err != nil {
		k.Warn(fmt.Sprintf("%s still configures the NIC: %v", s.Program, err))
	}
	return nil
}

// Undo does nothing.
func (s Reload) Undo(Kernel) error { return nil }

// Holds is always true: what was read cannot be seen.
func (s Reload) Holds(Kernel) (bool, error) { return true, nil }

func (s Reload) String() string { return managers.ReloadCommand(s.Program) }

// UndoString is "".
func (s Reload) UndoString() string { return "" }

// Unmanage has NetworkManager let go of a NIC before that becomes a port, or it
// would find its lease lost after a while and take the NIC back.
type Unmanage struct {
	Link string `json:"link"`
}

// Do has it let go. The NIC keeps what it has.
func (s Unmanage) Do(k Kernel) error { return k.SetManaged(s.Link, false) }

// Undo gives the NIC back, unless somebody did; NetworkManager then asks for its
// lease again, and the host is without its address for some 50 ms.
func (s Unmanage) Undo(k Kernel) error {
	if managed, err := k.Managed(s.Link); err != nil || managed {
		return err
	}
	return k.SetManaged(s.Link, true)
}

// Holds reports whether NetworkManager leaves the NIC alone.
func (s Unmanage) Holds(k Kernel) (bool, error) {
	managed, err := k.Managed(s.Link)
	return !managed, err
}

func (s Unmanage) String() string { return "nmcli device set " + s.Link + " managed no" }

// UndoString is the command Undo equals.
func (s Unmanage) UndoString() string { return "nmcli device set " + s.Link + " managed yes" }
