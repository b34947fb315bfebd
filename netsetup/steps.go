package netsetup

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// Step is one change to the host.
type Step interface {
	// Do makes the change. It refuses an object of the name that is not ours.
	Do(k Kernel) error
	// Undo takes it back. What is gone already is no error; what does not bear
	// our mark, or no longer holds the value we wrote, is left alone.
	Undo(k Kernel) error
	// Holds reports whether the host still is as Do left it.
	Holds(k Kernel) (bool, error)
	// String is the change as ip(8), nft(8) and sysctl(8) commands, one a line.
	String() string
	// UndoString is the like for Undo, "" where another step's undo does it.
	UndoString() string
}

// takenElsewhere is ErrNotOurs of a link that does bear the mark.
type takenElsewhere struct{ kind string }

// Error says who has it.
func (e *takenElsewhere) Error() string {
	return fmt.Sprintf("a %s of that name and mark: VMs of another run directory use it, or left it (qnet --run-dir DIR gc)", e.kind)
}

// Is makes it ErrNotOurs.
func (e *takenElsewhere) Is(target error) bool { return target == ErrNotOurs }

// taken is the error about a link that has the name that one of ours would have.
func taken(l Link, alias string) error {
	if l.Alias == alias {
		return &takenElsewhere{l.Kind}
	}
	return fmt.Errorf("a %s of that name, alias %q: %w", l.Kind, l.Alias, ErrNotOurs)
}

// Do creates the bridge and then marks it: the kernel takes no ifalias at creation.
func (s AddBridge) Do(k Kernel) error {
	l, ok, err := k.Link(s.Name)
	if err != nil {
		return err
	}
	if ok {
		return fmt.Errorf("add bridge %q: %w", s.Name, taken(l, s.Alias))
	}
	return k.AddBridge(s)
}

// Undo deletes the bridge. Its address, routes, sysctls and ports' membership go
// with it.
func (s AddBridge) Undo(k Kernel) error { return delMade(k, s) }

// made finds the bridge if it bears our mark, or if it is the one we were killed
// at before it was marked, which our MAC tells.
func (s AddBridge) made(k Kernel) (string, error) {
	l, ok, err := k.Link(s.Name)
	if err != nil || !ok {
		return "", err
	}
	unmarked := l.Alias == "" && l.MAC.String() == s.MAC.String()
	if l.Kind != "bridge" || l.Alias != s.Alias && !unmarked {
		return "", nil
	}
	if s.Carries != "" {
		carries, err := k.CarriesHost(s.Name)
		if err == nil && carries {
			err = fmt.Errorf("delete bridge %q: it still has the host's addresses", s.Name)
		}
		if err != nil {
			return "", err
		}
	}
	return s.Name, nil
}

func delMade(k Kernel, s linkMaker) error {
	name, err := s.made(k)
	if err != nil || name == "" {
		return err
	}
	return k.DelLinks([]string{name})
}

func (s AddBridge) String() string {
	return fmt.Sprintf("ip link add %s address %s mtu %d type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nip link set %s alias %s",
		s.Name, s.MAC, s.MTU, s.Name, s.Alias)
}

// UndoString is the command Undo equals.
func (s AddBridge) UndoString() string { return "ip link del " + s.Name }

// AddTap creates a tap that goes away with the last file descriptor on it.
type AddTap struct {
	Name  string `json:"name"`
	Alias string `json:"alias"`
	MTU   int    `json:"mtu"`
}

// Do creates the tap; Kernel keeps its file.
func (s AddTap) Do(k Kernel) error {
	l, ok, err := k.Link(s.Name)
	if err != nil {
		return err
	}
	if ok {
		return fmt.Errorf("add tap %q: %w", s.Name, taken(l, s.Alias))
	}
	return k.AddTap(s.Name, s.Alias, s.MTU)
}

// Undo deletes the tap if it still exists, even one that was made persistent.
func (s AddTap) Undo(k Kernel) error { return delMade(k, s) }

func (s AddTap) made(k Kernel) (string, error) {
	l, ok, err := k.Link(s.Name)
	if err != nil || !ok || l.Alias != s.Alias {
		return "", err
	}
	return s.Name, nil
}

func (s AddTap) String() string {
	cmd := fmt.Sprintf("ip tuntap add %s mode tap user root group root vnet_hdr\nip link set %s alias %s", s.Name, s.Name, s.Alias)
	if s.MTU != DefaultMTU {
		cmd += fmt.Sprintf("\nip link set %s mtu %d", s.Name, s.MTU)
	}
	return cmd
}

// UndoString is the command Undo equals.
func (s AddTap) UndoString() string { return "ip link del " + s.Name }

// SetSysctl writes a value below /proc/sys. Old is what the host had; "" means
// the key belongs to a link of ours and goes with it.
type SetSysctl struct {
	Key   string `json:"key"` // "net/ipv4/conf/eth0/forwarding"
	Value string `json:"value"`
	Old   string `json:"old,omitempty"`
	// Wider is the key that sets this one and all others of its kind. Once it has our
	// value, somebody else wants that here too, and it is not put back.
	Wider string `json:"wider,omitempty"`
}

// Do writes the value.
func (s SetSysctl) Do(k Kernel) error { return k.SetSysctl(s.Key, s.Value) }

// Undo writes the old value back if the key still holds ours, and ours alone.
func (s SetSysctl) Undo(k Kernel) error {
	if s.Old == "" {
		return nil
	}
	now, err := k.Sysctl(s.Key)
	if err != nil || now != s.Value {
		return nil //nolint:nilerr // the link is gone, or somebody else's value stands: neither is ours to mend
	}
	if wanted, err := s.WantedByOthers(k); wanted || err != nil {
		return err
	}
	return k.SetSysctl(s.Key, s.Old)
}

// WantedByOthers reports whether another program has set all keys of the kind to
// our value meanwhile, as one does that turns ip_forward on.
func (s SetSysctl) WantedByOthers(k Kernel) (bool, error) {
	if s.Wider == "" {
		return false, nil
	}
	wide, err := k.Sysctl(s.Wider)
	return wide == s.Value, err
}

func (s SetSysctl) String() string { return sysctlCommand(s.Key, s.Value) }

// UndoString is the command Undo equals.
func (s SetSysctl) UndoString() string {
	if s.Old == "" {
		return ""
	}
	return sysctlCommand(s.Key, s.Old)
}

// sysctlCommand keeps the slashes, which sysctl(8) takes too: a link's name may hold dots.
func sysctlCommand(key, value string) string { return "sysctl -qw " + key + "=" + value }

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

// AddAddr gives our bridge the host's address.
type AddAddr struct {
	Link   string       `json:"link"`
	Prefix netip.Prefix `json:"prefix"`
}

// Do adds the address.
func (s AddAddr) Do(k Kernel) error { return k.AddAddr(s.Link, s.Prefix) }

// Undo does nothing: the address goes with the bridge.
func (s AddAddr) Undo(Kernel) error { return nil }

func (s AddAddr) String() string {
	return fmt.Sprintf("ip addr add %s broadcast + dev %s", s.Prefix, s.Link)
}

// UndoString is empty: the address goes with the bridge.
func (s AddAddr) UndoString() string { return "" }

// SetUp sets a link up. Restore tells that it is the host's own and was down.
type SetUp struct {
	Link    string `json:"link"`
	Restore bool   `json:"restore,omitempty"`
}

// Do sets the link up.
func (s SetUp) Do(k Kernel) error { return k.SetUp(s.Link, true) }

// Undo sets a link of the host's down again.
func (s SetUp) Undo(k Kernel) error {
	if !s.Restore {
		return nil
	}
	if _, ok, err := k.Link(s.Link); err != nil || !ok {
		return err
	}
	return k.SetUp(s.Link, false)
}

func (s SetUp) String() string { return "ip link set " + s.Link + " up" }

// UndoString is the command Undo equals.
func (s SetUp) UndoString() string {
	if !s.Restore {
		return ""
	}
	return "ip link set " + s.Link + " down"
}

// SetPort makes a link a port of a bridge. Restore tells that the link is the
// host's own and must be released.
type SetPort struct {
	Link    string `json:"link"`
	Bridge  string `json:"bridge"`
	Restore bool   `json:"restore,omitempty"`
}

// Do makes the link a port. A link that already has a master is refused: the
// kernel would silently take it away from there.
func (s SetPort) Do(k Kernel) error {
	l, ok, err := k.Link(s.Link)
	if err != nil {
		return err
	}
	if ok && l.Master != 0 {
		return fmt.Errorf("set %q master %s: it already is a port: %w", s.Link, s.Bridge, ErrRefused)
	}
	return k.SetMaster(s.Link, s.Bridge)
}

// Undo releases the host's link if it still is a port of our bridge.
func (s SetPort) Undo(k Kernel) error {
	if !s.Restore {
		return nil
	}
	l, ok, err := k.Link(s.Link)
	if err != nil || !ok || l.Master == 0 {
		return err
	}
	b, ok, err := k.Link(s.Bridge)
	if err != nil || !ok || b.Index != l.Master {
		return err
	}
	return k.SetMaster(s.Link, "")
}

func (s SetPort) String() string { return "ip link set " + s.Link + " master " + s.Bridge }

// UndoString is the command Undo equals.
func (s SetPort) UndoString() string {
	if !s.Restore {
		return ""
	}
	return "ip link set " + s.Link + " nomaster"
}

// Script joins the commands of steps, in order.
func Script(steps []Step) string {
	var lines []string
	for _, s := range steps {
		lines = append(lines, s.String())
	}
	return strings.Join(lines, "\n")
}

// UndoScript joins the commands that undo the steps, last step first.
func UndoScript(steps []Step) string {
	var lines []string
	for i := len(steps) - 1; i >= 0; i-- {
		if u := steps[i].UndoString(); u != "" {
			lines = append(lines, u)
		}
	}
	return strings.Join(lines, "\n")
}

// Holds reports whether the bridge is there and bears our mark.
func (s AddBridge) Holds(k Kernel) (bool, error) { return marked(k, s.Name, s.Alias) }

// Holds reports whether the tap is there and bears our mark.
func (s AddTap) Holds(k Kernel) (bool, error) { return marked(k, s.Name, s.Alias) }

func marked(k Kernel, name, alias string) (bool, error) {
	l, ok, err := k.Link(name)
	return ok && l.Alias == alias, err
}

// Holds reports whether the key has our value.
func (s SetSysctl) Holds(k Kernel) (bool, error) {
	now, err := k.Sysctl(s.Key)
	if errors.Is(err, fs.ErrNotExist) {
		// Its link is gone: the host's own may be, ours not. Or only IPv6 is (withoutIPv6).
		return s.Old != "" || strings.HasSuffix(s.Key, "/disable_ipv6"), nil
	}
	return now == s.Value, err
}

// Holds reports whether the table is there and bears our mark.
func (s AddTable) Holds(k Kernel) (bool, error) { return k.HasTable(s.Table) }

// Holds reports whether the link has the address.
func (s AddAddr) Holds(k Kernel) (bool, error) {
	addrs, err := k.Addrs(s.Link)
	return slices.Contains(addrs, s.Prefix), err
}

// Holds reports whether the link is up.
func (s SetUp) Holds(k Kernel) (bool, error) {
	l, ok, err := k.Link(s.Link)
	return ok && l.Up || !ok && s.Restore, err // the host's own link may be gone
}

// Holds reports whether the link is a port of the bridge.
func (s SetPort) Holds(k Kernel) (bool, error) {
	l, ok, err := k.Link(s.Link)
	if err != nil || !ok {
		return s.Restore, err // as above
	}
	b, ok, err := k.Link(s.Bridge)
	return ok && b.Index == l.Master, err
}
