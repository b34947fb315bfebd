package step

import (
	"fmt"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// AddTable creates an nftables table with all its rules in one transaction.
type AddTable struct {
	Table nft.Table `json:"table"`
}

// Do adds the table.
func (s AddTable) Do(k Kernel) error { return k.AddTable(s.Table) }

// Undo deletes it if it bears our comment.
func (s AddTable) Undo(k Kernel) error { return k.DelTable(s.Table) }

func (s AddTable) String() string { return "nft -f - <<'EOF'\n" + s.Table.String() + "EOF" }

// UndoString is the command Undo equals.
func (s AddTable) UndoString() string {
	return fmt.Sprintf("nft delete table %s %s", s.Table.Family, s.Table.Name)
}

// Holds reports whether the table is there and bears our mark.
func (s AddTable) Holds(k Kernel) (bool, error) { return k.HasTable(s.Table) }
