package step

import (
	"context"
	"fmt"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

var _ = Register[AddTable]()

// Tables are qnet's nftables tables.
type Tables interface {
	AddTable(ctx context.Context, t nft.Table) error
	AdoptTable(ctx context.Context, t nft.Table) error                  // takes over one that a dead keeper left, adds one that is gone
	HasTable(ctx context.Context, t nft.Table) (bool, error)            // whether the table is there and bears its comment
	MarkedTables(ctx context.Context, mark string) ([]nft.Table, error) // see nft.Conn.Marked
	DelTable(ctx context.Context, t nft.Table) error                    // deletes it if it bears its comment
	ListForwards(ctx context.Context, f nft.Forwarding) ([]nft.Destination, error)
	SetForwards(ctx context.Context, f nft.Forwarding, add, del []nft.Destination) error // see nft.Conn.SetForwards
}

// AddTable creates an nftables table with all its rules in one transaction.
type AddTable struct {
	Table nft.Table `json:"table"`
}

// Do adds the table.
func (s AddTable) Do(ctx context.Context, k Kernel) error { return k.AddTable(ctx, s.Table) }

// Undo deletes the table if it bears our comment.
func (s AddTable) Undo(ctx context.Context, k Kernel) error { return k.DelTable(ctx, s.Table) }

// Holds reports whether the table is there and bears our comment.
func (s AddTable) Holds(ctx context.Context, k Kernel) (bool, error) { return k.HasTable(ctx, s.Table) }

func (s AddTable) String() string { return "nft -f - <<'EOF'\n" + s.Table.String() + "EOF" }

// UndoString is the command that deletes the table.
func (s AddTable) UndoString() string {
	return fmt.Sprintf("nft delete table %s %s", s.Table.Family, s.Table.Name)
}

// IsConcurrent makes it Concurrent: its links are down when the table is deleted.
func (AddTable) IsConcurrent() {}

// GoesWithBridge reports whether the kernel removes the table's hook with its link.
func (s AddTable) GoesWithBridge() bool { return s.Table.Family == nft.NetDev }

// Drift tells of a table that is gone.
func (s AddTable) Drift(ctx context.Context, k Kernel, _ []Step) []string {
	if holds, err := s.Holds(ctx, k); err != nil || holds {
		return nil
	}
	return []string{fmt.Sprintf("nftables table %s %s is gone, or another program's by now: left as it is", s.Table.Family, s.Table.Name)}
}

// Adopt makes this process the table's owner.
func (s AddTable) Adopt(ctx context.Context, k Kernel) error { return k.AdoptTable(ctx, s.Table) }
