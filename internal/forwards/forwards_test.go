package forwards

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/netsetup/guestwatch"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
)

// userVM is a VM with one NIC in mode user, and a QEMU that listens at ports.
type userVM struct {
	fails  func(at netip.AddrPort) error // of the next AddForward; nil never does
	listen []string
}

func (v *userVM) NIC(int) control.NIC                   { return control.NIC{} }
func (v *userVM) Registration(int) *keeper.Registration { return nil }
func (v *userVM) Place(int) (place int, ok bool)        { return 7, true }
func (v *userVM) named(proto string, at netip.AddrPort) string {
	return fmt.Sprintf("%s %s", proto, at)
}

func (v *userVM) AddForward(_ context.Context, nic int, proto string, at netip.AddrPort, _ uint16) error {
	if nic != 7 {
		return errors.New("another NIC")
	}
	if v.fails != nil {
		if err := v.fails(at); err != nil {
			return err
		}
	}
	v.listen = append(v.listen, v.named(proto, at))
	return nil
}

func (v *userVM) RemoveForward(_ context.Context, _ int, proto string, at netip.AddrPort) error {
	i := slices.Index(v.listen, v.named(proto, at))
	if i < 0 {
		return errors.New("no such")
	}
	v.listen = slices.Delete(v.listen, i, i+1)
	return nil
}

func (v *userVM) forwards(t *testing.T, list ...profiles.Forward) *Forwards {
	t.Helper()
	f := &Forwards{RunDir: t.TempDir(), Host: v, Profile: &profiles.Profile{Name: "web", NICs: []profiles.NIC{{Mode: profiles.Private}, {Mode: profiles.User, Forwards: list}}}}
	t.Cleanup(f.Close)
	return f
}

// port returns a port of 127.0.0.1 that is free just now.
func port(t *testing.T) uint16 {
	t.Helper()
	at, err := freePort(t.Context(), "tcp")
	if err != nil {
		t.Fatal(err)
	}
	return at.Port()
}

func args(ports ...string) json.RawMessage {
	b, _ := json.Marshal(control.ForwardArgs{Ports: ports})
	return b
}

// What QEMU cannot listen at, a relay does, to a port of QEMU's own. Removed, nobody listens.
func TestForwardsOfUser(t *testing.T) {
	v, p := &userVM{}, port(t)
	f := v.forwards(t)
	both := fmt.Sprintf("%d:80", p)
	if err := f.Add(t.Context(), v, args(both)); err != nil {
		t.Fatal(err)
	}
	list := f.Describe(1)
	if len(list) != 2 || list[0].How != control.ByHostfwd || list[0].Carried != nil || list[1].How != control.ByRelay || list[1].Carried == nil {
		t.Errorf("got %+v", list)
	}
	if len(v.listen) != 2 || v.listen[0] != fmt.Sprintf("tcp 127.0.0.1:%d", p) || !strings.HasPrefix(v.listen[1], "tcp 127.0.0.1:") {
		t.Errorf("QEMU listens at %v", v.listen)
	}
	if err := f.Add(t.Context(), v, args(fmt.Sprintf("*:%d:81", p))); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("the same port again: got %v", err)
	}
	if err := f.Remove(t.Context(), v, args(both, "1:1")); err == nil || len(f.Describe(1)) != 2 {
		t.Errorf("with one that is not there: got %v, and %+v are left", err, f.Describe(1))
	}
	if err := f.Remove(t.Context(), v, args(both)); err != nil || len(v.listen) > 0 || len(f.Describe(1)) > 0 {
		t.Errorf("got %v, and %v, %+v are left", err, v.listen, f.Describe(1))
	}
	if c, err := net.Dial("tcp", fmt.Sprintf("[::1]:%d", p)); err == nil {
		c.Close()
		t.Error("the relay listens still")
	}
}

// All are added, or none.
func TestAddsAreUndone(t *testing.T) {
	v, p := &userVM{}, port(t)
	f := v.forwards(t)
	calls := 0
	v.fails = func(netip.AddrPort) error {
		if calls++; calls == 3 {
			return errors.New("QEMU says no")
		}
		return nil
	}
	err := f.Add(t.Context(), v, args(fmt.Sprintf("%d:80", p), fmt.Sprintf("127.0.0.2:%d:80", p)))
	if err == nil || !strings.Contains(err.Error(), "QEMU says no") {
		t.Errorf("got %v", err)
	}
	if len(v.listen) > 0 || len(f.Describe(1)) > 0 {
		t.Errorf("%v, %+v are left", v.listen, f.Describe(1))
	}
}

// A port for QEMU that another process took first is no reason to give up.
func TestInnerPortsAreTriedAgain(t *testing.T) {
	v, p := &userVM{}, port(t)
	calls := 0
	v.fails = func(netip.AddrPort) error {
		if calls++; calls < innerTries {
			return errors.New("taken")
		}
		return nil
	}
	f := v.forwards(t, profiles.Forward{Proto: "tcp", Address: netip.IPv6Loopback(), Port: p, Guest: 80})
	var said []string
	say := func(line string) { said = append(said, line) }
	if err := errors.Join(f.Bind(t.Context()), f.Begin(t.Context(), v, nil, say)); err != nil || calls != innerTries {
		t.Errorf("after %d tries: %v", calls, err)
	}
	if !slices.Equal(said, Plan(f.Profile)) || len(said) != 1 {
		t.Errorf("said %q, planned %q", said, Plan(f.Profile))
	}
	calls = -1000
	f = v.forwards(t, profiles.Forward{Proto: "tcp", Address: netip.IPv6Loopback(), Port: port(t), Guest: 80})
	if err := errors.Join(f.Bind(t.Context()), f.Begin(t.Context(), v, nil, say)); err == nil {
		t.Error("without any free port it should fail")
	}
}

// The ports of a guest that is booted for others are not taken: they are the others'.
func TestForwardsOff(t *testing.T) {
	v, p := &userVM{}, port(t)
	f := v.forwards(t, profiles.Forward{Proto: "tcp", Address: netip.MustParseAddr("127.0.0.1"), Port: p, Guest: 80})
	f.Off = true
	say := func(line string) { t.Errorf("said %q", line) }
	if err := errors.Join(f.Bind(t.Context()), f.Begin(t.Context(), v, nil, say)); err != nil || len(v.listen) > 0 {
		t.Errorf("got %v, %v", err, v.listen)
	}
	if f.Of(1) != nil {
		t.Errorf("got %v", f.Of(1))
	}
}

func TestGuestAt(t *testing.T) {
	addr := netip.MustParseAddr
	for name, c := range map[string]struct {
		nic    control.NIC
		want   string
		within time.Duration
	}{
		"the lease":           {control.NIC{Address: addr("10.1.0.9"), Seen: guestwatch.State{Addresses: []netip.Addr{addr("10.1.0.7"), addr("10.1.0.9")}}}, "10.1.0.9:80", dialTime},
		"another than leased": {control.NIC{Address: addr("10.1.0.9"), Seen: guestwatch.State{Addresses: []netip.Addr{addr("10.1.0.7")}}}, "10.1.0.7:80", dialTime},
		"not shown yet":       {control.NIC{Address: addr("10.1.0.9")}, "10.1.0.9:80", shyTime},
		"learned":             {control.NIC{Seen: guestwatch.State{Addresses: []netip.Addr{addr("fe80::1"), addr("2001:db8::1")}}}, "[2001:db8::1]:80", dialTime},
		"link-local only":     {control.NIC{Seen: guestwatch.State{Addresses: []netip.Addr{addr("fe80::1")}}}, "invalid AddrPort", 0},
		"nothing":             {control.NIC{}, "invalid AddrPort", 0},
	} {
		if got, within := guestAt(c.nic, 80); got.String() != c.want || within != c.within {
			t.Errorf("%s: got %s, %s", name, got, within)
		}
	}
}

// Ports lead to NICs that the host reaches.
func TestNICsThatTakePorts(t *testing.T) {
	p := &profiles.Profile{Name: "web", NICs: []profiles.NIC{{Mode: profiles.Private}, {Mode: profiles.None}, {Mode: profiles.Bridge, Network: "m"}}, Networks: map[string]profiles.Network{"m": {Macvtap: true}}}
	f := &Forwards{Profile: p}
	if _, _, err := f.read(args("80:80")); !errors.Is(err, errNone) {
		t.Errorf("got %v", err)
	}
	p.NICs = append(p.NICs, profiles.NIC{Mode: profiles.HostOnly, Network: "h"}, profiles.NIC{Mode: profiles.NAT, Network: "n"})
	if _, nic, err := f.read(args("80:80")); nic != 3 || err != nil {
		t.Errorf("got %d, %v", nic, err)
	}
	one := 4
	b, _ := json.Marshal(control.ForwardArgs{Ports: []string{"80:80"}, NIC: &one})
	if list, nic, err := f.read(b); nic != 4 || len(list) != 2 || err != nil {
		t.Errorf("got %v, %d, %v", list, nic, err)
	}
}
