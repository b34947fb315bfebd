package keeper_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
)

// A VM's name that leads out of the run directory makes the keeper remove nothing.
func TestNameLeadsNowhere(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.Private}, "web", port(1))
		victim := filepath.Join(filepath.Dir(o.RunDir), "victim")
		if err := errors.Join(os.Mkdir(victim, 0o700), os.WriteFile(filepath.Join(victim, "file"), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		for _, vm := range []string{"../../victim", "../../victim/file", "web/../../../victim", "..", ""} {
			c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: rundir.Network{RunDir: o.RunDir, Name: "dev"}.Socket(), Net: "unixpacket"})
			if err != nil {
				t.Fatal(err)
			}
			ns, err := host.NetNS()
			if err != nil {
				t.Fatal(err)
			}
			req := keeper.Request{Versions: keeper.Speaks, Op: keeper.OpJoin, NetNS: ns, Network: Network{Name: "dev", Mode: profiles.Private}, VM: vm}
			var rep keeper.Reply
			if err := keeper.Send(c, req); err != nil {
				t.Fatal(err)
			}
			if _, err := keeper.Receive(c, &rep); err != nil || rep.Error == nil || !strings.Contains(rep.Error.Error(), profiles.NamePattern) {
				t.Errorf("VM %q: %+v, %v", vm, rep.Error, err)
			}
			c.CloseWrite()
			c.SetReadDeadline(time.Now().Add(10 * time.Second))
			keeper.Receive(c, &rep)
			c.Close()
		}
		if _, err := os.Stat(filepath.Join(victim, "file")); err != nil {
			t.Error(err)
		}
		lab.Sh(t, "ip link show qnweb0")
		mustLeave(t, r)
		os.RemoveAll(victim)
	})
}

// What no supervisor sends is refused, with the rule in the text; what one sends is not.
func TestValidate(t *testing.T) {
	mac := net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}
	nat := Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet, Uplink: "eth0", MTU: 1400, PXE: profiles.PXE{File: "boot", Server: netip.MustParseAddr("10.0.0.1")}}
	join := func(change func(*keeper.Request)) keeper.Request {
		r := keeper.Request{Op: keeper.OpJoin, VM: "web", Network: nat, Ports: []PortRequest{{NIC: 14, MAC: mac, Address: netip.MustParseAddr("10.77.0.9")}}}
		change(&r)
		return r
	}
	network := func(change func(*Network)) keeper.Request {
		return join(func(r *keeper.Request) { change(&r.Network) })
	}
	nic := func(change func(*PortRequest)) keeper.Request {
		return join(func(r *keeper.Request) { change(&r.Ports[0]) })
	}
	held := func(change func(*Port)) keeper.Request {
		r := keeper.Request{Op: keeper.OpRejoin, VM: "web", Network: nat, Held: []Port{{NIC: 3, MAC: mac, Tap: "qnweb3"}}}
		change(&r.Held[0])
		return r
	}
	for name, c := range map[string]struct {
		req  keeper.Request
		want string // "": valid
	}{
		"a join":   {join(func(*keeper.Request) {}), ""},
		"a rejoin": {held(func(*Port) {}), ""},
		"info":     {keeper.Request{Op: keeper.OpInfo, VM: "../x"}, ""},
		"a macvtap": {network(func(n *Network) {
			*n = Network{Name: "lan", Mode: profiles.Bridge, Macvtap: true, Uplink: "enp5s0.100"}
		}), ""},
		"vm":                  {join(func(r *keeper.Request) { r.VM = "../x" }), `VM "../x": allowed are names`},
		"network":             {network(func(n *Network) { n.Name = "a/b" }), `network "a/b": allowed are names`},
		"mode":                {network(func(n *Network) { n.Mode = "user" }), `mode "user" makes no network`},
		"uplink":              {network(func(n *Network) { n.Uplink = "../../all" }), "is no name of a link"},
		"subnet":              {network(func(n *Network) { n.Subnet = netip.MustParsePrefix("0.0.0.0/0") }), "subnet 0.0.0.0/0"},
		"subnet of a bridge":  {network(func(n *Network) { *n = Network{Name: "lan", Mode: profiles.Bridge, Subnet: subnet} }), "allowed in host-only and nat"},
		"macvtap":             {network(func(n *Network) { n.Macvtap = true }), "macvtap in mode nat"},
		"pxe":                 {network(func(n *Network) { n.PXE.File = "a\nb" }), "pxe file"},
		"pxe server":          {network(func(n *Network) { n.PXE.Server = netip.MustParseAddr("::1") }), "pxe server ::1"},
		"namespace":           {join(func(r *keeper.Request) { r.NetNS = strings.Repeat("n", 5000) }), "network namespace has 5000 bytes"},
		"no port":             {join(func(r *keeper.Request) { r.Ports = nil }), "0 NICs, allowed: 1 to 16"},
		"many ports":          {join(func(r *keeper.Request) { r.Ports = make([]PortRequest, 17) }), "17 NICs"},
		"nic":                 {nic(func(p *PortRequest) { p.NIC = 16 }), "nic 16: it has no such number"},
		"nic below zero":      {nic(func(p *PortRequest) { p.NIC = -1 }), "nic -1"},
		"nic twice":           {join(func(r *keeper.Request) { r.Ports = append(r.Ports, r.Ports[0]) }), "named twice"},
		"group MAC":           {nic(func(p *PortRequest) { p.MAC = net.HardwareAddr{1, 0, 0, 0, 0, 1} }), "a unicast address of 6 bytes"},
		"no MAC":              {nic(func(p *PortRequest) { p.MAC = make([]byte, 6) }), "a unicast address of 6 bytes"},
		"short MAC":           {nic(func(p *PortRequest) { p.MAC = mac[:3] }), "a unicast address of 6 bytes"},
		"MAC twice":           {join(func(r *keeper.Request) { r.Ports = append(r.Ports, PortRequest{MAC: mac}) }), "which another NIC has"},
		"IPv6 address":        {nic(func(p *PortRequest) { p.Address = netip.MustParseAddr("::1") }), "address ::1"},
		"many traced":         {nic(func(p *PortRequest) { p.Trace = make([]netip.Addr, 65) }), "65 traced addresses"},
		"the tap of another":  {held(func(p *Port) { p.Tap = "eth0" }), `tap "eth0", and it has qnweb3`},
		"many seen addresses": {held(func(p *Port) { p.Seen.Addresses = make([]netip.Addr, 65) }), "65 addresses"},
	} {
		err := c.req.Validate()
		if (err == nil) != (c.want == "") || err != nil && (!errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	for want, s := range map[string]keeper.Spec{
		"":                       {Network: nat, Starter: 7},
		"allowed are names":      {Network: Network{Name: "..", Mode: profiles.NAT}},
		"a start that no qnet":   {Network: nat, Starter: -1},
		`network "dev": a start`: {Network: nat, Port53: strings.Repeat("p", 5000)},
	} {
		if err := s.Validate(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if err := keeper.ValidDirs("/run/qnet", "state"); !errors.Is(err, host.ErrRefused) || keeper.ValidDirs("/run/qnet", "/var/lib/qnet") != nil {
		t.Errorf("a relative directory: %v", err)
	}
}

// The files of a message are those that its ports name.
func TestDistribute(t *testing.T) {
	files := make([]*os.File, 10)
	for _, c := range []struct {
		queues []int
		files  int
		ok     bool
	}{
		{[]int{0, 0}, 0, true},
		{[]int{1, 2}, 3, true},
		{[]int{8}, 8, true},
		{[]int{9}, 9, false},
		{[]int{-1}, 0, false},
		{[]int{2}, 1, false},
		{[]int{1}, 2, false},
		{nil, 1, false},
	} {
		var r keeper.Request
		for _, q := range c.queues {
			r.Ports = append(r.Ports, PortRequest{Queues: q})
		}
		err := r.Distribute(files[:c.files])
		if (err == nil) != c.ok || err != nil && !errors.Is(err, host.ErrRefused) {
			t.Errorf("queues %v, %d files: %v", c.queues, c.files, err)
		}
		for i, p := range r.Ports {
			if c.ok && len(p.Files) != c.queues[i] {
				t.Errorf("queues %v: port %d has %d files", c.queues, i, len(p.Files))
			}
		}
	}
}

// A message that is larger than any of qnet's ends the connection, and its files are closed.
func TestTooLarge(t *testing.T) {
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(lab.Dir(t), "s"), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	theirs, err := net.DialUnix("unixpacket", nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	theirs.SetWriteBuffer(1 << 20)
	ours, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	many := make([]*os.File, 130)
	for i := range many {
		if many[i], err = os.Open(os.DevNull); err != nil {
			t.Fatal(err)
		}
		defer many[i].Close()
	}
	for name, send := range map[string]func() error{
		"300 KiB":   func() error { return keeper.Send(theirs, strings.Repeat("x", 300<<10)) },
		"130 files": func() error { return keeper.Send(theirs, "x", many...) },
	} {
		if err := send(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var text string
		files, err := keeper.Receive(ours, &text)
		keeper.CloseAll(files)
		if !errors.Is(err, keeper.ErrTooLarge) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
