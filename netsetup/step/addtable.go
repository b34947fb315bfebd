package step

import (
	"context"
	"fmt"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

var _ = register[AddTable]()

// AddTable creates an nftables table with all its rules in one transaction.
type AddTable struct {
	Table nft.Table `json:"table"`
}

// Do adds the table.
func (s AddTable) Do(ctx context.Context, k Kernel) error { return k.AddTable(ctx, s.Table) }

// Undo deletes it if it bears our comment.
func (s AddTable) Undo(ctx context.Context, k Kernel) error { return k.DelTable(ctx, s.Table) }

func (s AddTable) String() string { return "nft -f - <<'EOF'\n" + s.Table.String() + "EOF" }

// UndoString is the command Undo equals.
func (s AddTable) UndoString() string {
	return fmt.Sprintf("nft delete table %s %s", s.Table.Family, s.Table.Name)
}

// Holds reports whether the table is there and bears our mark.
func (s AddTable) Holds(ctx context.Context, k Kernel) (bool, error) { return k.HasTable(ctx, s.Table) }

// IsConcurrent: a table may go while the links go, because its links are down by then.
func (AddTable) IsConcurrent() {}

// GoesWithBridge: the kernel removes the hook of a netdev table with its link.
func (s AddTable) GoesWithBridge() bool { return s.Table.Family == nft.NetDev }

// Adopt makes the table belong to this process.
func (s AddTable) Adopt(ctx context.Context, k Kernel) error { return k.AdoptTable(ctx, s.Table) }
