package step_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/netsetup/step/steptest"
)

// A sysctl of the host's goes back to its value only while it has ours, and while no other
// program has set all of its kind to ours.
func TestSetSysctlRespectsOthers(t *testing.T) {
	const key = "net/ipv4/conf/eth0/forwarding"
	s := step.SetSysctl{Key: key, Value: "1", Old: "0", Wider: host.IPForward}
	for name, c := range map[string]struct{ now, wide, want string }{
		"ours":                {"1", "0", "0"},
		"changed":             {"2", "0", "2"},
		"wanted by all":       {"1", "1", "1"},
		"the old value again": {"0", "0", "0"},
	} {
		m := &steptest.Memory{State: base()}
		m.State["/"+key], m.State["/"+host.IPForward] = c.now, c.wide
		if err := s.Undo(t.Context(), m.Kernel()); err != nil || m.State["/"+key] != c.want {
			t.Errorf("%s: %q, %v; want %q", name, m.State["/"+key], err, c.want)
		}
	}
}

// A key goes with its link. That of a link of ours is mended with the link; what the host or
// the kernel took away is not.
func TestSetSysctlOfALinkThatIsGone(t *testing.T) {
	m := &steptest.Memory{State: map[string]string{}}
	for s, want := range map[step.SetSysctl]bool{
		{Key: "net/ipv4/conf/qn-dev/arp_ignore", Value: "1"}:         false,
		{Key: "net/ipv6/conf/qn-dev/disable_ipv6", Value: "1"}:       true,
		{Key: "net/ipv4/conf/eth0/forwarding", Value: "1", Old: "0"}: true,
	} {
		if holds, err := s.Holds(t.Context(), m.Kernel()); err != nil || holds != want {
			t.Errorf("%s: holds %t, %v", s, holds, err)
		}
		if err := s.Undo(t.Context(), m.Kernel()); err != nil {
			t.Errorf("%s: %v", s, err)
		}
		if drift := s.Drift(t.Context(), m.Kernel(), nil); drift != nil {
			t.Errorf("%s: drift %q", s, drift)
		}
	}
}

// A link of the host's that was unplugged is not mended, and not missed at the end.
func TestHostLinkThatIsGone(t *testing.T) {
	m := &steptest.Memory{State: map[string]string{"link qn-dev": "qnet:dev"}}
	for s, want := range map[step.Step]bool{
		step.SetUp{Link: "eth0", Restore: true}:                     true,
		step.SetUp{Link: "qnweb0"}:                                  false,
		step.SetPort{Link: "eth0", Bridge: "qn-dev", Restore: true}: true,
		step.SetPort{Link: "qnweb0", Bridge: "qn-dev"}:              false,
		step.PinGuest{Link: "qn-gone"}:                              false,
	} {
		if holds, err := s.Holds(t.Context(), m.Kernel()); err != nil || holds != want {
			t.Errorf("%s: holds %t, %v", s, holds, err)
		}
		if err := s.Undo(t.Context(), m.Kernel()); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range []step.Step{step.MoveToBridge{Link: "eth0", Bridge: "qn-dev"}, step.RaiseMetrics{Link: "qn-gone"}} {
		if err := s.Undo(t.Context(), m.Kernel()); err != nil || m.Calls != 1 { // of DelPin
			t.Errorf("%s: %d calls, %v", s, m.Calls, err)
		}
	}
}

// A port that another program moved to its own bridge is not released.
func TestSetPortReleasesOnlyOurs(t *testing.T) {
	m := &steptest.Memory{State: map[string]string{"link eth0": "", "link qn-dev": "qnet:dev", "master eth0": "br0"}}
	if err := (step.SetPort{Link: "eth0", Bridge: "qn-dev", Restore: true}).Undo(t.Context(), m.Kernel()); err != nil || m.State["master eth0"] != "br0" {
		t.Errorf("master %q, %v", m.State["master eth0"], err)
	}
}

// All networks share one file; the last one removes it.
func TestConfigFileIsShared(t *testing.T) {
	m := &steptest.Memory{State: map[string]string{}}
	for range 2 { // two networks
		if err := shared.Do(t.Context(), m.Kernel()); err != nil || m.Calls != 1 {
			t.Fatalf("%d calls, %v", m.Calls, err)
		}
	}
	m.State["link qn-other"] = "qnet:other"
	if err := shared.Undo(t.Context(), m.Kernel()); err != nil || m.State["file /run/x"] == "" {
		t.Errorf("removed beside another network: %v", err)
	}
	delete(m.State, "link qn-other")
	m.State["link eth0"] = ""
	for range 2 {
		if err := shared.Undo(t.Context(), m.Kernel()); err != nil || m.State["file /run/x"] != "" {
			t.Errorf("left: %v", err)
		}
	}
	m.State["file /run/x"] = "another program's"
	if err := shared.Undo(t.Context(), m.Kernel()); err != nil || m.State["file /run/x"] == "" {
		t.Errorf("removed another program's: %v", err)
	}
	if !strings.HasSuffix(shared.String(), "EOF\nnetworkctl reload") {
		t.Errorf("got %s", shared)
	}
}

// A file of an older qnet, with other words, is written anew.
func TestConfigFileOfAnOlderQnet(t *testing.T) {
	m := &steptest.Memory{State: map[string]string{"file /run/x": managers.Mark + "older\n"}}
	if holds, err := shared.Holds(t.Context(), m.Kernel()); err != nil || holds {
		t.Errorf("holds %t, %v", holds, err)
	}
	if err := shared.Do(t.Context(), m.Kernel()); err != nil || m.State["file /run/x"] != shared.Text {
		t.Errorf("got %q, %v", m.State["file /run/x"], err)
	}
}

// A program that does not read its configuration costs a warning that says what to do.
func TestDeafManagerIsAWarning(t *testing.T) {
	m := &steptest.Memory{State: map[string]string{"deaf systemd-networkd": ""}}
	k := m.Kernel()
	if err := errors.Join(shared.Do(t.Context(), k), step.Reload{Program: managers.Networkd}.Do(t.Context(), k), shared.Undo(t.Context(), k)); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"systemd-networkd may change the links of VMs, because it did not read /run/x: injected; have it read that: networkctl reload",
		"systemd-networkd still configures the NIC, because it did not read its configuration: injected; have it read that: networkctl reload",
		"systemd-networkd still leaves links alone, because it did not notice that /run/x is gone: injected; tell it: networkctl reload",
	}
	if !slices.Equal(m.Warnings, want) {
		t.Errorf("got  %q\nwant %q", m.Warnings, want)
	}
}

// unreadable is a file system whose files cannot be read.
type unreadable struct{ step.Managers }

func (unreadable) ReadConfig(context.Context, string) (string, error) { return "", fs.ErrPermission }

func TestConfigFileThatCannotBeRead(t *testing.T) {
	k := (&steptest.Memory{}).Kernel()
	k.Managers = unreadable{k.Managers}
	_, held := shared.Holds(t.Context(), k)
	for _, err := range []error{shared.Do(t.Context(), k), shared.Undo(t.Context(), k), held} {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("got %v", err)
		}
	}
}

// copied are filters that hold each accept several times, as after iptables-restore.
type copied struct {
	step.Filters
	left *int
}

func (c copied) ReadFilters(ctx context.Context) (filters.Ruleset, error) {
	r, err := c.Filters.ReadFilters(ctx)
	for i, chain := range r.Tables[0].Chains {
		if len(chain.Rules) > 0 {
			r.Tables[0].Chains[i].Rules = slices.Repeat(chain.Rules, *c.left)
		}
	}
	return r, err
}

func (c copied) DeleteAccept(ctx context.Context, a filters.AcceptRule) error {
	if *c.left--; *c.left > 0 {
		return nil
	}
	return c.Filters.DeleteAccept(ctx, a)
}

func TestAddAcceptIsInsertedOnceAndDeletedOften(t *testing.T) {
	m := &steptest.Memory{State: map[string]string{}}
	k, s := m.Kernel(), step.AddAccept{Rule: accept}
	for range 2 {
		if err := s.Do(t.Context(), k); err != nil || m.Calls != 1 {
			t.Fatalf("%d calls, %v", m.Calls, err)
		}
	}
	left := 3
	k.Filters = copied{k.Filters, &left}
	if err := s.Undo(t.Context(), k); err != nil || left != 0 || len(m.State) != 0 {
		t.Errorf("%d copies left, %v, %v", left, m.State, err)
	}
}

func TestSweepAccepts(t *testing.T) {
	other := accept
	other.Spec = strings.ReplaceAll(other.Spec, "qnet:dev", "qnet:lab")
	second := accept
	second.Chain = "INPUT"
	m := &steptest.Memory{State: map[string]string{}}
	for _, a := range []filters.AcceptRule{accept, second, other} {
		if err := m.Kernel().InsertAccept(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	m.Fail = m.Calls + 1
	if err := step.SweepAccepts(t.Context(), m.Kernel(), "dev"); !errors.Is(err, steptest.ErrInjected) || len(m.State) != 2 {
		t.Errorf("left %v, %v", m.State, err)
	}
	if err := step.SweepAccepts(t.Context(), m.Kernel(), "dev"); err != nil || len(m.State) != 1 {
		t.Errorf("left %v, %v", m.State, err)
	}
}

type unreadFilters struct{ step.Filters }

func (unreadFilters) ReadFilters(context.Context) (filters.Ruleset, error) {
	return filters.Ruleset{}, steptest.ErrInjected
}

func TestFiltersThatCannotBeRead(t *testing.T) {
	k := (&steptest.Memory{}).Kernel()
	k.Filters = unreadFilters{k.Filters}
	s := step.AddAccept{Rule: accept}
	for _, err := range []error{s.Do(t.Context(), k), s.Undo(t.Context(), k), step.SweepAccepts(t.Context(), k, "dev")} {
		if !errors.Is(err, steptest.ErrInjected) {
			t.Errorf("got %v", err)
		}
	}
}

// linkOf is a Links with one link.
type linkOf struct {
	step.Links
	link host.Link
}

func (l linkOf) Link(_ context.Context, name string) (host.Link, bool, error) {
	return l.link, l.link.Name == name, nil
}

// A link is found by its mark, or by its MAC where a kill came before the mark.
func TestMade(t *testing.T) {
	bridge := step.AddBridge{Name: "qn-dev", MAC: mac, Alias: "qnet:dev"}
	macvtap := step.AddMacvtap{Name: "qndb0", MAC: mac, Alias: "qnet:lan/db/0"}
	for name, c := range map[string]struct {
		step step.LinkMaker
		link host.Link
		want string
	}{
		"bridge":            {bridge, host.Link{Name: "qn-dev", Kind: "bridge", Alias: "qnet:dev"}, "qn-dev"},
		"unmarked bridge":   {bridge, host.Link{Name: "qn-dev", Kind: "bridge", MAC: mac}, "qn-dev"},
		"another's bridge":  {bridge, host.Link{Name: "qn-dev", Kind: "bridge"}, ""},
		"no bridge":         {bridge, host.Link{Name: "qn-dev", Kind: "dummy", Alias: "qnet:dev"}, ""},
		"macvtap":           {macvtap, host.Link{Name: "qndb0", Kind: "macvtap", Alias: "qnet:lan/db/0"}, "qndb0"},
		"unmarked macvtap":  {macvtap, host.Link{Name: "qndb0", Kind: "macvtap", MAC: mac}, "qndb0"},
		"another's macvtap": {macvtap, host.Link{Name: "qndb0", Kind: "macvtap"}, ""},
	} {
		k := (&steptest.Memory{}).Kernel()
		k.Links = linkOf{k.Links, c.link}
		if got, err := c.step.Made(t.Context(), k); got != c.want || err != nil {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

// A bridge that still has the host's addresses is not deleted.
func TestAddBridgeKeepsTheHostsAddresses(t *testing.T) {
	m := &steptest.Memory{State: map[string]string{"link qn-dev": "qnet:dev", "host qn-dev": "moved"}}
	err := step.AddBridge{Name: "qn-dev", Alias: "qnet:dev", Carries: "eth0"}.Undo(t.Context(), m.Kernel())
	const want = `delete bridge "qn-dev": it still has the host's addresses: give them back to "eth0", then run: qnet gc`
	if err == nil || err.Error() != want || m.State["link qn-dev"] == "" {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestOpenPorts(t *testing.T) {
	tap, macvtap := step.AddTap{Name: "qnweb0", Alias: "qnet:dev/web/0"}, step.AddMacvtap{Name: "qnweb0", Alias: "qnet:dev/web/0"}
	for name, c := range map[string]struct {
		port       step.PortMaker
		state      map[string]string
		open, told bool
	}{
		"open":      {tap, map[string]string{"link qnweb0": "qnet:dev/web/0", "open qnweb0": ""}, true, true},
		"closed":    {tap, map[string]string{"link qnweb0": "qnet:dev/web/0"}, false, true},
		"another's": {tap, map[string]string{"link qnweb0": "", "open qnweb0": ""}, false, true},
		"gone":      {tap, nil, false, true},
		"macvtap":   {macvtap, map[string]string{"link qnweb0": "qnet:dev/web/0"}, true, false},
	} {
		open, told, err := c.port.Open(t.Context(), (&steptest.Memory{State: c.state}).Kernel())
		if open != c.open || told != c.told || err != nil {
			t.Errorf("%s: open %t, told %t, %v", name, open, told, err)
		}
	}
}

// Without an address of the host's for ever, a bridge may have none: a lease can end.
func TestMoveToBridgeHolds(t *testing.T) {
	held := hosttest.Settled().NIC.Held
	lease := host.Holdings{Addrs: []rtnl.Address{held.Addrs[0].WithLifetimes(rtnl.Lifetimes{Preferred: 60, Valid: 60})}}
	for name, c := range map[string]struct {
		held  host.Holdings
		state map[string]string
		want  bool
	}{
		"moved":       {held, map[string]string{"master eth0": "qn-dev", "host qn-dev": "moved"}, true},
		"no address":  {held, map[string]string{"master eth0": "qn-dev"}, false},
		"lease ended": {lease, map[string]string{"master eth0": "qn-dev"}, true},
		"released":    {lease, map[string]string{"host qn-dev": "moved"}, false},
	} {
		m := &steptest.Memory{State: base()}
		for k, v := range c.state {
			m.State[k] = v
		}
		s := step.MoveToBridge{Link: "eth0", Bridge: "qn-dev", Alias: "qnet:dev", Held: c.held}
		if holds, err := s.Holds(t.Context(), m.Kernel()); err != nil || holds != c.want {
			t.Errorf("%s: holds %t, %v", name, holds, err)
		}
	}
}

func TestNICLabel(t *testing.T) {
	held := hosttest.Settled().NIC.Held
	s := step.MoveToBridge{Held: held}
	for i, want := range []string{"eth0", "eth0:1", ""} {
		if got := s.NICLabel(held.Addrs[i]); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// neighbor is a neighbour of the NIC as the kernel lists it.
func neighbor(state uint16, flags byte) rtnl.Neighbor {
	header := rtnl.Message{unix.AF_INET, 0, 0, 0, 2, 0, 0, 0, byte(state), 0, flags, 0}
	return rtnl.Neighbor{Message: rtnl.Append(header,
		rtnl.Attr{Type: unix.NDA_DST, Value: []byte{192, 0, 2, 7}}, rtnl.Attr{Type: unix.NDA_LLADDR, Value: mac})}
}

// Neighbours that an administrator set are words of the move; what the kernel learned is not.
func TestMoveWordsNeighbors(t *testing.T) {
	for want, n := range map[string]rtnl.Neighbor{
		"ip neigh replace 192.0.2.7 lladdr 02:00:00:00:00:01 nud permanent dev qn-dev": neighbor(unix.NUD_PERMANENT, 0),
		"ip neigh replace proxy 192.0.2.7 dev qn-dev":                                  neighbor(0, unix.NTF_PROXY),
		"": neighbor(unix.NUD_REACHABLE, 0),
	} {
		words := step.MoveToBridge{Link: "eth0", Bridge: "qn-dev", RPFilter: "1", Held: host.Holdings{Neighs: []rtnl.Neighbor{n}}}.String()
		if want != "" && !strings.Contains(words, want+"\n") || want == "" && strings.Contains(words, "neigh") {
			t.Errorf("want %q in\n%s", want, words)
		}
	}
}

// Raising the metrics and restoring them are one another's words, the gateway's route first.
func TestRaiseMetrics(t *testing.T) {
	s := step.RaiseMetrics{Link: "qn-dev", Held: hosttest.Settled().NIC.Held}
	s.Held.First = []bool{true, false}
	m := &steptest.Memory{State: base()}
	if err := s.Do(t.Context(), m.Kernel()); err != nil {
		t.Fatal(err)
	}
	const raise = `ip route append default via 192.0.2.1 dev qn-dev metric 1073741824
ip -6 route append default via 2001:db8::1 dev qn-dev metric 1073742848
ip -6 route del default via 2001:db8::1 dev qn-dev metric 1024
ip route del default via 192.0.2.1 dev qn-dev`
	if got := s.String(); got != raise {
		t.Errorf("got\n%s\nwant\n%s", got, raise)
	}
	const restore = `ip route prepend default via 192.0.2.1 dev qn-dev`
	if got, _, _ := strings.Cut(s.UndoString(), "\n"); got != restore {
		t.Errorf("got %s, want %s", got, restore)
	}
	if err := s.Undo(t.Context(), m.Kernel()); err != nil || m.Calls != 2 {
		t.Errorf("%d calls, %v", m.Calls, err)
	}
	m.Fail = 3
	if err := s.Do(t.Context(), m.Kernel()); err == nil || err.Error() != `raise metrics of the routes by "qn-dev": injected` {
		t.Errorf("got %v", err)
	}
	if holds, err := s.Holds(t.Context(), m.Kernel()); !holds || err != nil {
		t.Errorf("holds %t, %v", holds, err)
	}
}

// A list is written and read back, whatever its steps.
func TestListRoundTrip(t *testing.T) {
	var list step.List
	for _, c := range effects {
		list = append(list, c.step)
	}
	b, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	var back step.List
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back, list) {
		t.Errorf("got %v, %v", back, err)
	}
}

func TestListRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:                                  "cannot unmarshal object",
		`[{"type": "AddRouter", "step": {}}]`: `unknown type "AddRouter": a newer qnet wrote it, so use that`,
		`[{"type": "AddBridge", "step": {"mtu": "big"}}]`: "decode step AddBridge: ",
	} {
		var list step.List
		if err := json.Unmarshal([]byte(text), &list); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
	if list, err := json.Marshal(step.List(nil)); err != nil || string(list) != "[]" {
		t.Errorf("got %s, %v", list, err)
	}
}

// unknown is a step whose file forgot to register it.
type unknown struct{ step.SetUp }

func TestUnregisteredStepPanics(t *testing.T) {
	defer func() {
		if r := recover(); r == nil {
			t.Error("no panic")
		}
	}()
	step.TypeName(unknown{})
}

// Reload has the name of a step that is registered, and cannot be encoded.
type Reload struct {
	step.Step
	Loop chan int
}

func TestListOfWhatCannotBeEncoded(t *testing.T) {
	if _, err := json.Marshal(step.List{Reload{}}); err == nil {
		t.Error("encoded a channel")
	}
}

// dead is a kernel whose links cannot be read.
type dead struct{ step.Links }

func (dead) Link(context.Context, string) (host.Link, bool, error) {
	return host.Link{}, false, steptest.ErrInjected
}

func (dead) ListLinks(context.Context) ([]host.Link, error) { return nil, steptest.ErrInjected }

// A step that asks for a link first returns the error of that.
func TestLinksThatCannotBeRead(t *testing.T) {
	asks := []string{"AddBridge", "AddMacvtap", "AddTap", "MoveToBridge", "SetPort"}
	for _, c := range effects {
		m := &steptest.Memory{State: base()}
		k := m.Kernel()
		k.Links = dead{k.Links}
		if err := c.step.Do(t.Context(), k); slices.Contains(asks, step.TypeName(c.step)) != errors.Is(err, steptest.ErrInjected) && !strings.HasPrefix(c.step.String(), "ip link set") {
			t.Errorf("%s: do: %v", c.step, err)
		}
		_, err := c.step.Holds(t.Context(), k)
		if undo := c.step.Undo(t.Context(), k); err != nil && !errors.Is(err, steptest.ErrInjected) || undo != nil && !errors.Is(undo, steptest.ErrInjected) {
			t.Errorf("%s: holds: %v, undo: %v", c.step, err, undo)
		}
	}
	k := (&steptest.Memory{State: map[string]string{"file /run/x": shared.Text}}).Kernel()
	k.Links = dead{k.Links}
	if err := shared.Undo(t.Context(), k); !errors.Is(err, steptest.ErrInjected) {
		t.Errorf("undo of the shared file: %v", err)
	}
}
