package plan

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/resolved"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// memory is a Kernel that holds only what steps change, and fails one call.
type memory struct {
	mu    sync.Mutex // links and tables are deleted side by side
	state map[string]string
	calls int
	fail  int // the call to fail, from 1; 0 is none
	times int // how often it fails, once if 0
	after bool
}

var errInjected = errors.New("injected")

// change makes a change, and fails before or after it.
func (m *memory) change(f func()) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	fails := m.fail > 0 && m.calls >= m.fail && m.calls < m.fail+max(m.times, 1)
	if fails && !m.after {
		return errInjected
	}
	f()
	if fails {
		return errInjected
	}
	return nil
}

func (m *memory) Link(name string) (host.Link, bool, error) {
	alias, ok := m.state["link "+name]
	l := host.Link{Index: len(name), Name: name, Alias: alias, Kind: "tun"}
	if strings.HasPrefix(name, "qn-") {
		l.Kind = "bridge"
	}
	l.Up = m.state["up "+name] != ""
	if master := m.state["master "+name]; master != "" {
		l.Master = len(master)
	}
	return l, ok, nil
}

func (m *memory) AddBridge(b step.AddBridge) error {
	return m.change(func() { m.state["link "+b.Name] = b.Alias })
}

func (m *memory) AddTap(name, alias string, _ int) error {
	return m.change(func() { m.state["link "+name] = alias })
}

func (m *memory) AddMacvtap(s step.AddMacvtap) error {
	return m.change(func() { m.state["link "+s.Name] = s.Alias })
}

func (m *memory) DelLinks(names []string) error {
	return m.change(func() {
		for _, name := range names {
			maps.DeleteFunc(m.state, func(k, _ string) bool {
				return strings.HasSuffix(k, " "+name) || strings.Contains(k, "/"+name+"/") || strings.HasSuffix(k, "@"+name)
			})
		}
	})
}

func (m *memory) SetMaster(link, bridge string) error {
	return m.change(func() {
		if m.state["master "+link] = bridge; bridge == "" {
			delete(m.state, "master "+link)
		}
	})
}

func (m *memory) SetUp(link string, up bool) error {
	return m.change(func() {
		if m.state["up "+link] = "yes"; !up {
			delete(m.state, "up "+link)
		}
	})
}

func (m *memory) SetMTU(link string, mtu int) error {
	return m.change(func() { m.state["mtu "+link] = strconv.Itoa(mtu) })
}

func (m *memory) ReplaceRoutes(link string, swaps []step.Swap) error {
	return m.change(func() {
		for _, s := range swaps {
			delete(m.state, "route "+string(s.Old)+"@"+link)
			m.state["route "+string(s.New)+"@"+link] = "yes"
		}
	})
}

func (m *memory) AddAddr(link string, p netip.Prefix) error {
	return m.change(func() { m.state["addr "+p.String()+"@"+link] = "yes" })
}

func (m *memory) MoveToBridge(s step.MoveToBridge) error {
	return m.change(func() { m.state["master "+s.Link] = s.Bridge; m.state["host "+s.Bridge] = "moved" })
}

func (m *memory) MoveBack(s step.MoveToBridge) error {
	return m.change(func() { delete(m.state, "master "+s.Link); delete(m.state, "host "+s.Bridge) })
}

func (m *memory) CarriesHost(bridge string) (bool, error) { return m.state["host "+bridge] != "", nil }

func (m *memory) Ask(_ string, want []host.Neighbor, _ time.Duration) ([]host.Neighbor, error) {
	return want, m.change(func() {})
}

func (m *memory) Sysctl(key string) (string, error) { return m.state["/"+key], nil }

func (m *memory) SetSysctl(key, value string) error {
	return m.change(func() { m.state["/"+key] = value })
}

func (m *memory) Links() ([]host.Link, error) {
	var links []host.Link
	for k := range m.state {
		if name, ok := strings.CutPrefix(k, "link "); ok {
			l, _, _ := m.Link(name)
			links = append(links, l)
		}
	}
	return links, nil
}

func (m *memory) Addrs(link string) ([]netip.Prefix, error) {
	var list []netip.Prefix
	for k := range m.state {
		if text, ok := strings.CutPrefix(k, "addr "); ok && strings.HasSuffix(text, "@"+link) {
			list = append(list, netip.MustParsePrefix(strings.TrimSuffix(text, "@"+link)))
		}
	}
	return list, nil
}

func (m *memory) AdoptTable(t nft.Table) error { return m.AddTable(t) }

func (m *memory) HasTable(t nft.Table) (bool, error) {
	comment, ok := m.state["table "+t.Name+string(t.Family)]
	return ok && comment == t.Comment, nil
}

func (m *memory) AddTable(t nft.Table) error {
	return m.change(func() { m.state["table "+t.Name+string(t.Family)] = t.Comment })
}

func (m *memory) DelTable(t nft.Table) error {
	return m.change(func() { delete(m.state, "table "+t.Name+string(t.Family)) })
}

func (m *memory) TellResolved(link string, s resolved.Settings) error {
	return m.change(func() { m.state["dns "+link] = strings.Join(s.Commands(link), "\n") })
}

func (m *memory) RevertResolved(link string) error {
	return m.change(func() { delete(m.state, "dns "+link) })
}

func (m *memory) TellResolvedBack(s step.LinkDNS) error {
	return m.change(func() { m.state["dns "+s.NIC] = strings.Join(s.Settings.Commands(s.NIC), "\n") })
}

func (m *memory) FIB() (host.FIB, error) {
	var f host.FIB
	for k := range m.state {
		if text, ok := strings.CutPrefix(k, "pin "); ok {
			guest, link, _ := strings.Cut(text, "@")
			f.Routes = append(f.Routes, host.FIBRoute{Dst: netip.MustParsePrefix(guest + "/32"), Link: len(link), Table: host.MainTable, Protocol: host.PinProtocol})
		}
		if text, ok := strings.CutPrefix(k, "rule "); ok {
			f.Rules = append(f.Rules, host.FIBRule{To: netip.MustParsePrefix(text), Priority: len(m.state[k]), Protocol: host.PinProtocol})
		}
	}
	return f, nil
}

func (m *memory) AddPin(link string, guest netip.Addr) error {
	return m.change(func() { m.state["pin "+guest.String()+"@"+link] = "yes" })
}

func (m *memory) DelPin(link string, guest netip.Addr) error {
	return m.change(func() { delete(m.state, "pin "+guest.String()+"@"+link) })
}

func (m *memory) AddPinRule(s step.PinRule) error {
	return m.change(func() { m.state["rule "+s.Prefix.String()] = strings.Repeat("i", s.Priority) })
}

func (m *memory) DelPinRule(s step.PinRule) error {
	return m.change(func() { delete(m.state, "rule "+s.Prefix.String()) })
}

func (m *memory) ReadConfig(path string) (string, error) {
	text, ok := m.state["file "+path]
	if !ok {
		return "", fs.ErrNotExist
	}
	return text, nil
}

func (m *memory) WriteConfig(path, text string) error {
	return m.change(func() { m.state["file "+path] = text })
}

func (m *memory) RemoveConfig(path string) error {
	return m.change(func() { delete(m.state, "file "+path) })
}

func (m *memory) Reload(managers.Program) error { return nil }

func (m *memory) SetManaged(link string, managed bool) error {
	return m.change(func() {
		if m.state["unmanaged "+link] = "yes"; managed {
			delete(m.state, "unmanaged "+link)
		}
	})
}

func (m *memory) Managed(link string) (bool, error) { return m.state["unmanaged "+link] == "", nil }

func (m *memory) Warn(string) {}

func (m *memory) Filters() (filters.Ruleset, error) {
	r := filters.Ruleset{Tables: []filters.Table{{Engine: filters.IPTablesNFT, Family: nft.IP, Name: "filter"}}}
	for _, name := range []string{"INPUT", "FORWARD"} {
		c := filters.Chain{Name: name, Type: "filter", Hook: nft.Hook(strings.ToLower(name)), Policy: filters.Discard}
		for k := range m.state {
			if text, ok := strings.CutPrefix(k, "accept "); ok && strings.HasPrefix(text, "-A "+name) {
				c.Rules = append(c.Rules, filters.Rule{Verdict: filters.Accept, Text: text})
			}
		}
		r.Tables[0].Chains = append(r.Tables[0].Chains, c)
	}
	r.Programs = filters.Programs{filters.IPTablesNFT: {nft.IP: "/sbin/iptables-nft"}}
	return r, nil
}

func (m *memory) InsertAccept(a filters.AcceptRule) error {
	return m.change(func() { m.state["accept "+a.Text()] = "yes" })
}

func (m *memory) DeleteAccept(a filters.AcceptRule) error {
	return m.change(func() { delete(m.state, "accept "+a.Text()) })
}

// goldenState is the host of goldenFacts, as a memory holds it.
func goldenState() map[string]string {
	return map[string]string{
		"link eth0": "", "link eth1": "", "up eth0": "yes", "/" + host.ForwardingKey("eth0"): "0", "/net/ipv6/conf/eth0/disable_ipv6": "0",
		"dns eth0": linkDNS,
	}
}

func steps(t *testing.T, golden string) []step.Step {
	t.Helper()
	n := goldenNetworks[golden]
	n.Name = "dev"
	facts := hosttest.Facts(golden)
	facts.Configurators = managers.Programs
	facts.Filters, _ = (&memory{}).Filters() // as Docker and ufw leave them
	p, err := New(n, facts, Options{Salt: hosttest.Salt})
	if err != nil {
		t.Fatal(err)
	}
	return append(p.Steps, p.PortSteps(Port{VM: "web", NIC: 0, MAC: hosttest.GuestMAC})...)
}

// Whichever call fails, before or after it took effect, the host is as before
// and the error tells the cause.
func TestApplyFailingAtEachCall(t *testing.T) {
	for mode := range goldenNetworks {
		plan := steps(t, mode)
		start := goldenState()
		whole := &memory{state: maps.Clone(start)}
		if err := step.Apply(whole, plan, nil); err != nil {
			t.Fatal(err)
		}
		for call := 1; call <= whole.calls; call++ {
			for _, after := range []bool{false, true} {
				name := fmt.Sprintf("%s, call %d, after=%v", mode, call, after)
				m := &memory{state: maps.Clone(start), fail: call, after: after}
				err := step.Apply(m, plan, nil)
				var step *step.StepError
				if !errors.Is(err, errInjected) || !errors.As(err, &step) {
					t.Errorf("%s: %v", name, err)
				}
				if !maps.Equal(m.state, start) {
					t.Errorf("%s: left\n%v", name, m.state)
				}
			}
		}
	}
}

// A step that cannot be undone does not keep the others from being undone.
func TestUndoGoesOnAfterAFailure(t *testing.T) {
	plan := steps(t, "nat")
	start := map[string]string{"/" + host.ForwardingKey("eth0"): "0"}
	m := &memory{state: maps.Clone(start)}
	if err := step.Apply(m, plan, nil); err != nil {
		t.Fatal(err)
	}
	applied, before := maps.Clone(m.state), m.calls
	if err := step.Undo(m, plan); err != nil {
		t.Fatal(err)
	}
	for call := before + 1; call <= m.calls; call++ {
		once := &memory{state: maps.Clone(applied), calls: before, fail: call}
		if err := step.Undo(once, plan); err != nil || !maps.Equal(once.state, start) {
			t.Errorf("call %d fails once: left %v: %v", call, once.state, err)
		}
		again := &memory{state: maps.Clone(applied), calls: before, fail: call, times: 2}
		if err := step.Undo(again, plan); !errors.Is(err, errInjected) {
			t.Errorf("call %d: %v", call, err)
		}
		want := m.calls + 1
		if again.state["link qn-dev"]+again.state["link qnweb0"] != "" {
			want -= 2 // with a link of ours left, the two files stay
		}
		if again.calls != want {
			t.Errorf("call %d failed: %d calls instead of %d", call, again.calls, want)
		}
		if err := step.Undo(again, plan); err != nil || !maps.Equal(again.state, start) {
			t.Errorf("call %d: a second undo leaves %v: %v", call, again.state, err)
		}
	}
}

// Undo respects what somebody else did meanwhile.
func TestUndoLeavesOthersAlone(t *testing.T) {
	plan := steps(t, "nat")
	m := &memory{state: map[string]string{"/" + host.ForwardingKey("eth0"): "0"}}
	if err := step.Apply(m, plan, nil); err != nil {
		t.Fatal(err)
	}
	m.state["link qn-dev"] = "somebody else's"    // deleted and made anew
	m.state["/"+host.ForwardingKey("eth0")] = "0" // turned off
	if err := step.Undo(m, plan); err != nil {
		t.Fatal(err)
	}
	if m.state["link qn-dev"] != "somebody else's" {
		t.Error("undo deleted a foreign bridge")
	}
}

// linkDNS is what systemd-resolved knows of the NIC that is moved.
var linkDNS = strings.Join(hosttest.Settled().NIC.DNS.Commands("eth0"), "\n")

func mendAll(t *testing.T, k step.Kernel, plan []step.Step) ([]step.Step, error) {
	t.Helper()
	seen, err := step.Look(k)
	if err != nil {
		t.Fatal(err)
	}
	return step.Mend(seen, plan, func(step.Step) bool { return false })
}

// Whatever of a network is taken away, Mend puts it back and nothing else; but a
// tap, which it tells of.
func TestMend(t *testing.T) {
	for mode := range goldenNetworks {
		plan := steps(t, mode)
		start := goldenState()
		m := &memory{state: maps.Clone(start)}
		if err := step.Apply(m, plan, nil); err != nil {
			t.Fatal(err)
		}
		whole := maps.Clone(m.state)
		for key, value := range whole {
			if start[key] == value || key == "link qnweb0" || strings.HasPrefix(key, "dns ") {
				continue
			}
			delete(m.state, key)
			mended, err := mendAll(t, m, plan)
			if err != nil || !maps.Equal(m.state, whole) || len(mended) == 0 {
				t.Errorf("%s without %q: mended %v, %v", mode, key, mended, err)
			}
		}
		if mended, err := mendAll(t, m, plan); err != nil || len(mended) != 0 {
			t.Errorf("%s: mended what was whole: %v, %v", mode, mended, err)
		}
		delete(m.state, "link qnweb0")
		if _, err := mendAll(t, m, plan); !errors.Is(err, step.ErrLost) {
			t.Errorf("%s without the tap: %v", mode, err)
		}
	}
}

func (m *memory) SetZone(z firewalld.Zone) error {
	return m.change(func() { m.state["zone "+z.Link] = z.Name })
}

func (m *memory) UnsetZone(z firewalld.Zone) error {
	return m.change(func() { delete(m.state, "zone "+z.Link) })
}

func (m *memory) InZone(z firewalld.Zone) (bool, error) {
	return m.state["zone "+z.Link] == z.Name, nil
}
