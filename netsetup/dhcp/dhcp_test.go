package dhcp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/profiles"
)

var (
	prefix  = netip.MustParsePrefix("10.91.0.0/24")
	gateway = netip.MustParseAddr("10.91.0.1")
	hostMAC = net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}
)

func hw(n int) net.HardwareAddr {
	return net.HardwareAddr{0x52, 0x54, 1, byte(n >> 16), byte(n >> 8), byte(n)}
}

func newServer(t testing.TB, change func(*Config)) *Server {
	t.Helper()
	c := Config{MAC: hostMAC, Prefix: prefix, Address: gateway, Router: true, Domain: "qnet", MTU: 1500}
	if change != nil {
		change(&c)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// fromClient is a client's message on its way.
func fromClient(m *dhcpv4.DHCPv4) packet.Datagram {
	return packet.Datagram{
		SrcMAC: m.ClientHWAddr, DstMAC: packet.Broadcast, Src: netip.IPv4Unspecified(), Dst: broadcast,
		SrcPort: clientPort, DstPort: serverPort, Payload: m.ToBytes(),
	}
}

// ask sends a client's message as a frame and returns the answer and its envelope.
func ask(t testing.TB, s *Server, m *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, packet.Datagram) {
	t.Helper()
	d := fromClient(m)
	frame := s.handle(d.Frame())
	if frame == nil {
		return nil, d
	}
	answer, ok := packet.ParseDatagram(frame)
	if !ok {
		t.Fatalf("answer is no datagram: %x", frame)
	}
	if !lab.Checksums(frame) {
		t.Errorf("wrong checksums: %x", frame)
	}
	r, err := dhcpv4.FromBytes(answer.Payload)
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Payload) < 300 {
		t.Errorf("%d bytes; BOOTP clients want 300", len(answer.Payload))
	}
	return r, answer
}

func message(client net.HardwareAddr, t dhcpv4.MessageType, more ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(client), dhcpv4.WithMessageType(t)}, more...)...)
	if err != nil {
		panic(err)
	}
	return m
}

func requested(a netip.Addr) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(a.AsSlice()))
}

// lease gets a client its address by DISCOVER and REQUEST.
func takeLease(t testing.TB, s *Server, client net.HardwareAddr, more ...dhcpv4.Modifier) netip.Addr {
	t.Helper()
	offer, _ := ask(t, s, message(client, dhcpv4.MessageTypeDiscover, more...))
	if offer == nil || offer.MessageType() != dhcpv4.MessageTypeOffer {
		t.Fatalf("no offer for %s: %v", client, offer)
	}
	a := toAddr(offer.YourIPAddr)
	ack, _ := ask(t, s, message(client, dhcpv4.MessageTypeRequest,
		append(more, requested(a), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(gateway.AsSlice())))...))
	if ack == nil || ack.MessageType() != dhcpv4.MessageTypeAck || toAddr(ack.YourIPAddr) != a {
		t.Fatalf("no ACK for %s: %v", client, ack)
	}
	return a
}

func TestOptions(t *testing.T) {
	s := newServer(t, nil)
	want, err := s.Reserve(hw(1), netip.Addr{}, "web")
	if err != nil {
		t.Fatal(err)
	}
	offer, d := ask(t, s, message(hw(1), dhcpv4.MessageTypeDiscover))
	if got := toAddr(offer.YourIPAddr); got != want {
		t.Errorf("offered %s, reserved %s", got, want)
	}
	if d.Src != gateway || d.Dst != want || d.DstMAC.String() != hw(1).String() || d.SrcPort != 67 || d.DstPort != 68 {
		t.Errorf("envelope: %+v", d)
	}
	for name, ok := range map[string]bool{
		"mask":      net.IP(offer.SubnetMask()).String() == "255.255.255.0",
		"broadcast": offer.BroadcastAddress().String() == "10.91.0.255",
		"router":    offer.Router()[0].Equal(gateway.AsSlice()),
		"dns":       offer.DNS()[0].Equal(gateway.AsSlice()),
		"domain":    offer.DomainName() == "qnet",
		"search":    offer.DomainSearch().Labels[0] == "qnet",
		"lease":     offer.IPAddressLeaseTime(0) == leaseTime,
		"renew":     offer.IPAddressRenewalTime(0) == leaseTime/2,
		"server":    offer.ServerIdentifier().Equal(gateway.AsSlice()),
		"host":      offer.HostName() == "web",
		"no mtu":    offer.GetOneOption(dhcpv4.OptionInterfaceMTU) == nil,
		"no file":   offer.BootFileName == "",
	} {
		if !ok {
			t.Errorf("%s: %s", name, offer.Summary())
		}
	}

	s = newServer(t, func(c *Config) { c.MTU, c.Router, c.Domain = 9000, false, "" })
	offer, _ = ask(t, s, message(hw(2), dhcpv4.MessageTypeDiscover))
	if got := offer.GetOneOption(dhcpv4.OptionInterfaceMTU); !bytes.Equal(got, []byte{0x23, 0x28}) {
		t.Errorf("MTU option: %x", got)
	}
	if offer.Router() != nil || offer.DNS() != nil {
		t.Errorf("offers a router or DNS: %s", offer.Summary())
	}
}

func TestRequests(t *testing.T) {
	server := dhcpv4.WithOption(dhcpv4.OptServerIdentifier(gateway.AsSlice()))
	other := dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 91, 0, 200)))
	addr := netip.MustParseAddr
	for name, c := range map[string]struct {
		more []dhcpv4.Modifier
		want dhcpv4.MessageType // None: no answer
	}{
		"takes the offer":       {[]dhcpv4.Modifier{server, requested(addr("10.91.0.10"))}, dhcpv4.MessageTypeAck},
		"takes another address": {[]dhcpv4.Modifier{server, requested(addr("10.91.0.11"))}, dhcpv4.MessageTypeNak},
		"takes no address":      {[]dhcpv4.Modifier{server}, dhcpv4.MessageTypeNak},
		"of another server":     {[]dhcpv4.Modifier{other, requested(addr("10.91.0.11"))}, dhcpv4.MessageTypeNone},
		"reboots":               {[]dhcpv4.Modifier{requested(addr("10.91.0.10"))}, dhcpv4.MessageTypeAck},
		"comes from elsewhere":  {[]dhcpv4.Modifier{requested(addr("192.168.1.7"))}, dhcpv4.MessageTypeNak},
		"renews":                {[]dhcpv4.Modifier{dhcpv4.WithClientIP(net.IPv4(10, 91, 0, 10))}, dhcpv4.MessageTypeAck},
		"renews a foreign one":  {[]dhcpv4.Modifier{dhcpv4.WithClientIP(net.IPv4(10, 91, 0, 11))}, dhcpv4.MessageTypeNak},
		"wants the gateway's":   {[]dhcpv4.Modifier{requested(gateway)}, dhcpv4.MessageTypeNak},
	} {
		s := newServer(t, nil)
		if _, err := s.Reserve(hw(1), addr("10.91.0.10"), "web"); err != nil {
			t.Fatal(err)
		}
		clock := time.Now()
		s.pool.now = func() time.Time { return clock }
		for _, jump := range []time.Duration{0, 1000 * time.Hour, -2000 * time.Hour} {
			clock = clock.Add(jump)
			r, d := ask(t, s, message(hw(1), dhcpv4.MessageTypeRequest, c.more...))
			got := dhcpv4.MessageTypeNone
			if r != nil {
				got = r.MessageType()
			}
			if got != c.want {
				t.Errorf("%s, clock %+d: got %s, want %s", name, jump, got, c.want)
			}
			if got == dhcpv4.MessageTypeNak && (d.Dst != broadcast || r.Message() == "") {
				t.Errorf("%s: NAK to %s: %q", name, d.Dst, r.Message())
			}
			if name == "renews" && (d.Dst != addr("10.91.0.10") || d.DstMAC.String() != hw(1).String()) {
				t.Errorf("a renewal is answered to %s %s", d.Dst, d.DstMAC)
			}
		}
	}
}

func TestReservations(t *testing.T) {
	s := newServer(t, nil)
	seen := map[netip.Addr]bool{}
	for i := range 252 { // 256 without network, broadcast, gateway; and one for others
		a, err := s.Reserve(hw(i), netip.Addr{}, fmt.Sprint("vm", i))
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		if seen[a] || !prefix.Contains(a) || a == gateway || a.As4()[3] == 0 || a.As4()[3] == 255 {
			t.Errorf("%d: bad address %s", i, a)
		}
		seen[a] = true
	}
	if _, err := s.Reserve(hw(252), netip.Addr{}, "x"); err != nil {
		t.Error(err)
	}
	if _, err := s.Reserve(hw(253), netip.Addr{}, "y"); !errors.Is(err, ErrFull) {
		t.Errorf("full network: %v", err)
	}
	if _, err := s.Reserve(hw(254), seenOne(seen), "z"); !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), "vm") {
		t.Errorf("taken address: %v", err)
	}
}

// A plan names the addresses that a run reserves, also where the MACs of two NICs lead to one
// address: 60 NICs of 253 addresses do.
func TestPlannedAddressesAreTheReserved(t *testing.T) {
	s := newServer(t, nil)
	var nics []NIC
	var want []netip.Addr
	for i := range 60 {
		nic := NIC{MAC: hw(i)}
		if i == 0 {
			nic.Wish = netip.MustParseAddr("10.91.0.10")
		}
		a, err := s.Reserve(nic.MAC, nic.Wish, "v")
		if err != nil {
			t.Fatal(err)
		}
		nics, want = append(nics, nic), append(want, a)
	}
	got, err := AddressesOf(prefix, gateway, nics)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v\nwant %v", got, err, want)
	}
}

func seenOne(m map[netip.Addr]bool) netip.Addr {
	for a := range m {
		return a
	}
	return netip.Addr{}
}

// Addresses survive a lost lease file, and collisions a kept one.
func TestAddressesAreTheSameAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "leases")
	with := func(c *Config) { c.LeaseFile = file }
	s := newServer(t, with)
	var first []netip.Addr
	for i := range 100 {
		a, err := s.Reserve(hw(i), netip.Addr{}, "v")
		if err != nil {
			t.Fatal(err)
		}
		first = append(first, a)
	}
	dynamic := takeLease(t, s, hw(1000))
	s.Close()

	s = newServer(t, with)
	for i := 99; i >= 0; i-- { // in another order
		if a, _ := s.Reserve(hw(i), netip.Addr{}, "v"); a != first[i] {
			t.Errorf("%d: %s became %s", i, first[i], a)
		}
	}
	if a := takeLease(t, s, hw(1000)); a != dynamic {
		t.Errorf("other client: %s became %s", dynamic, a)
	}
	s.Close()
	os.Remove(file)
	s = newServer(t, with)
	if a, _ := s.Reserve(hw(0), netip.Addr{}, "v"); a != first[0] {
		t.Errorf("without the file %s became %s", first[0], a)
	}
	// A client that renews what we forgot keeps it.
	r, _ := ask(t, s, message(hw(1001), dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(net.IPv4(10, 91, 0, 250))))
	if r.MessageType() != dhcpv4.MessageTypeAck {
		t.Errorf("forgotten lease: %s", r.Summary())
	}
}

func TestDamagedLeaseFile(t *testing.T) {
	whole := "52:54:01:00:00:01 10.91.0.7\n52:54:01:00:00:02 10.91.0.8\n"
	for cut := range len(whole) + 1 {
		file := filepath.Join(t.TempDir(), "leases")
		if err := os.WriteFile(file, []byte(whole[:cut]+"\x00\xff garbage"), 0o644); err != nil {
			t.Fatal(err)
		}
		s := newServer(t, func(c *Config) { c.LeaseFile = file })
		if cut == len(whole) && s.pool.last[toMAC(hw(2))] != netip.MustParseAddr("10.91.0.8") {
			t.Error("a whole line is lost")
		}
		if _, err := s.Reserve(hw(1), netip.Addr{}, "v"); err != nil {
			t.Error(err)
		}
	}
}

func TestSameClientIDDifferentMACs(t *testing.T) {
	s := newServer(t, nil)
	id := dhcpv4.WithOption(dhcpv4.OptClientIdentifier([]byte("cloned machine")))
	if a, b := takeLease(t, s, hw(1), id), takeLease(t, s, hw(2), id); a == b {
		t.Errorf("both have %s", a)
	}
}

// A flood of DISCOVERs takes no VM's address and no more than the pool's memory.
func TestFlood(t *testing.T) {
	var warnings []string
	s := newServer(t, func(c *Config) { c.Warn = func(w string) { warnings = append(warnings, w) } })
	for i := range 100_000 {
		ask(t, s, message(hw(i), dhcpv4.MessageTypeDiscover))
	}
	if n := len(s.pool.leases); n > 64 {
		t.Errorf("%d leases in a quarter of a /24", n)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "no address left") {
		t.Errorf("warnings: %q", warnings)
	}
	for i := range 189 {
		if _, err := s.Reserve(hw(200_000+i), netip.Addr{}, "v"); err != nil {
			t.Fatalf("VM %d: %v", i, err)
		}
	}
	clock := time.Now().Add(2 * offerTime)
	s.pool.now = func() time.Time { return clock }
	takeLease(t, s, hw(300_000)) // offers that no client took are free again
}

func TestPinnedAddressWins(t *testing.T) {
	s := newServer(t, nil)
	a := takeLease(t, s, hw(1))
	if got, err := s.Reserve(hw(2), a, "web"); err != nil || got != a {
		t.Fatalf("%s, %v", got, err)
	}
	r, _ := ask(t, s, message(hw(1), dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(a.AsSlice())))
	if r.MessageType() != dhcpv4.MessageTypeNak {
		t.Errorf("the client before renews: %s", r.Summary())
	}
	if b := takeLease(t, s, hw(1)); b == a {
		t.Error("two have one address")
	}
}

func TestDeclineAndRelease(t *testing.T) {
	s := newServer(t, nil)
	a := takeLease(t, s, hw(1))
	ask(t, s, message(hw(1), dhcpv4.MessageTypeDecline, requested(a)))
	if b := takeLease(t, s, hw(1)); b == a {
		t.Error("a declined address is offered again")
	}
	ask(t, s, message(hw(1), dhcpv4.MessageTypeRelease))
	if len(s.Leases()) != 0 {
		t.Errorf("released: %+v", s.Leases())
	}
	want, _ := s.Reserve(hw(2), netip.Addr{}, "web")
	for _, kind := range []dhcpv4.MessageType{dhcpv4.MessageTypeDecline, dhcpv4.MessageTypeRelease} {
		ask(t, s, message(hw(2), kind, requested(want)))
	}
	if a := takeLease(t, s, hw(2)); a != want {
		t.Errorf("a VM's address went from %s to %s", want, a)
	}
}

func TestNames(t *testing.T) {
	var warnings []string
	s := newServer(t, func(c *Config) { c.Warn = func(w string) { warnings = append(warnings, w) } })
	web, _ := s.Reserve(hw(1), netip.Addr{}, "web")
	host := func(name string) dhcpv4.Modifier { return dhcpv4.WithOption(dhcpv4.OptHostName(name)) }
	box := takeLease(t, s, hw(2), host("box"))
	takeLease(t, s, hw(3), host("WEB"))                     // a VM's
	takeLease(t, s, hw(4), host("box"))                     // first come keeps it
	takeLease(t, s, hw(5), host("a\x00b\n"))                // control characters
	takeLease(t, s, hw(6), host(strings.Repeat("n", 255)))  // too long
	takeLease(t, s, hw(7), host("host"))                    // the host's
	takeLease(t, s, hw(1), host("other"), host("whatever")) // a VM keeps its own
	for name, want := range map[string][]netip.Addr{
		"web": {web}, "box": {box}, "host": nil, "other": nil, "a": nil, strings.Repeat("n", 63): nil,
	} {
		if got := s.Lookup(name); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%.10s: %v, want %v", name, got, want)
		}
	}
	if s.Reverse(web) != "web" || s.Reverse(box) != "box" || s.Reverse(gateway) != "" {
		t.Errorf("reverse: %q %q %q", s.Reverse(web), s.Reverse(box), s.Reverse(gateway))
	}
	if len(warnings) != 5 || !strings.Contains(strings.Join(warnings, "\n"), `"web", which 52:54:01:00:00:01 has`) {
		t.Errorf("warnings: %q", warnings)
	}
	// A VM that comes later takes its name.
	if _, err := s.Reserve(hw(9), netip.Addr{}, "box"); err != nil || len(s.Lookup("box")) != 1 || s.Lookup("box")[0] == box {
		t.Errorf("box: %v", s.Lookup("box"))
	}
}

// No client gets a name that means another machine, as no VM does.
func TestReservedNames(t *testing.T) {
	var warnings []string
	s := newServer(t, func(c *Config) { c.Warn = func(w string) { warnings = append(warnings, w) } })
	names := append(profiles.ReservedNames(), "1234", "0xbeef", "WPAD.qnet")
	for i, name := range names {
		takeLease(t, s, hw(i+1), dhcpv4.WithOption(dhcpv4.OptHostName(name)))
		if got := s.Lookup(strings.ToLower(strings.TrimSuffix(name, ".qnet"))); got != nil {
			t.Errorf("%s: a client has it, at %v", name, got)
		}
	}
	if len(warnings) == 0 || !strings.Contains(strings.Join(warnings, "\n"), `the name "localhost", which names each machine itself`) {
		t.Errorf("warnings: %q", warnings)
	}
}

func TestNetboot(t *testing.T) {
	s := newServer(t, func(c *Config) { c.PXE.File = "pxelinux.0" })
	plain, _ := ask(t, s, message(hw(1), dhcpv4.MessageTypeDiscover))
	if plain.BootFileName != "" {
		t.Error("a plain client is told to netboot")
	}
	pxe, _ := ask(t, s, message(hw(2), dhcpv4.MessageTypeDiscover, dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00000"))))
	if pxe.BootFileName != "pxelinux.0" || !pxe.ServerIPAddr.Equal(gateway.AsSlice()) || pxe.TFTPServerName() != "10.91.0.1" {
		t.Errorf("PXE: %s", pxe.Summary())
	}
	bootp := message(hw(3), dhcpv4.MessageTypeDiscover)
	bootp.DeleteOption(dhcpv4.OptionDHCPMessageType)
	r, _ := ask(t, s, bootp)
	if r == nil || r.YourIPAddr.IsUnspecified() || r.BootFileName != "pxelinux.0" || r.MessageType() != dhcpv4.MessageTypeNone {
		t.Errorf("BOOTP: %v", r)
	}
}

func TestNotForUs(t *testing.T) {
	s := newServer(t, nil)
	relayed := message(hw(1), dhcpv4.MessageTypeDiscover, dhcpv4.WithGatewayIP(net.IPv4(10, 0, 0, 1)))
	reply := message(hw(1), dhcpv4.MessageTypeOffer)
	reply.OpCode = dhcpv4.OpcodeBootReply
	multicast := message(net.HardwareAddr{1, 0, 0, 0, 0, 1}, dhcpv4.MessageTypeDiscover)
	for name, m := range map[string]*dhcpv4.DHCPv4{"relayed": relayed, "a reply": reply, "of a multicast address": multicast} {
		if r, _ := ask(t, s, m); r != nil {
			t.Errorf("%s: answered: %s", name, r.Summary())
		}
	}
}

// Promise P15: a guest gets nothing by the MAC of another VM's NIC: neither its lease nor a
// word in its place. Its own clients, such as containers, get their leases.
func TestLeaseIsForItsOwnNIC(t *testing.T) {
	var told []string
	s := newServer(t, func(c *Config) { c.Warn = func(text string) { told = append(told, text) } })
	for i, vm := range []string{"web", "evil"} {
		if _, err := s.Reserve(hw(i), netip.Addr{}, vm); err != nil {
			t.Fatal(err)
		}
	}
	web := s.Leases()
	address := web[slices.IndexFunc(web, func(l Lease) bool { return l.Host == "web" })].Address
	forged := func(m *dhcpv4.DHCPv4) []byte {
		d := fromClient(m)
		d.SrcMAC = hw(1)
		return s.handle(d.Frame())
	}
	for _, kind := range []dhcpv4.MessageType{
		dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeInform, dhcpv4.MessageTypeDecline,
		dhcpv4.MessageTypeRelease, dhcpv4.MessageTypeNone,
	} {
		m := message(hw(0), kind, requested(address), dhcpv4.WithBroadcast(true))
		if kind == dhcpv4.MessageTypeNone {
			m.Options = dhcpv4.Options{} // BOOTP
		}
		if frame := forged(m); frame != nil {
			t.Errorf("%s: answered with %x", kind, frame)
		}
	}
	if i := slices.IndexFunc(s.Leases(), func(l Lease) bool { return l.Host == "web" && l.Bound }); i >= 0 {
		t.Errorf("the lease shows as taken: %+v", s.Leases()[i])
	}
	if len(told) != 1 || !strings.Contains(told[0], hw(1).String()) || !strings.Contains(told[0], "web") {
		t.Errorf("told %q", told)
	}
	if got := takeLease(t, s, hw(0)); got != address {
		t.Errorf("its own NIC gets %s, want %s", got, address)
	}
	if forged(message(hw(7), dhcpv4.MessageTypeDiscover)) == nil {
		t.Error("a client behind the guest's NIC gets no offer")
	}
}

// What a server in another process says of its clients counts only as far as it can be.
func TestConfirm(t *testing.T) {
	s := newServer(t, nil)
	own, err := s.Reserve(hw(1), netip.Addr{}, "web")
	if err != nil {
		t.Fatal(err)
	}
	other := netip.MustParseAddr("10.91.0.250")
	client := Lease{MAC: hw(9).String(), Address: other, Host: "box", Bound: true, Left: time.Minute}
	vm := Lease{MAC: hw(1).String(), Address: own, Host: "web", VM: true, Bound: true}
	reserved := vm
	reserved.Bound = false
	change := func(l Lease, f func(*Lease)) Lease {
		f(&l)
		return l
	}
	for name, c := range map[string]struct{ told, want []Lease }{
		"nothing":           {nil, []Lease{reserved}},
		"both":              {[]Lease{client, vm}, []Lease{vm, client}},
		"another address":   {[]Lease{change(vm, func(l *Lease) { l.Address = other })}, []Lease{reserved}},
		"another name":      {[]Lease{change(vm, func(l *Lease) { l.Host = "evil" })}, []Lease{vm}},
		"a VM's address":    {[]Lease{change(client, func(l *Lease) { l.Address = own })}, []Lease{reserved}},
		"the gateway's":     {[]Lease{change(client, func(l *Lease) { l.Address = gateway })}, []Lease{reserved}},
		"of another subnet": {[]Lease{change(client, func(l *Lease) { l.Address = netip.MustParseAddr("10.92.0.9") })}, []Lease{reserved}},
		"of IPv6":           {[]Lease{change(client, func(l *Lease) { l.Address = netip.MustParseAddr("fd00::1") })}, []Lease{reserved}},
		"no address":        {[]Lease{change(client, func(l *Lease) { l.Address = netip.Addr{} })}, []Lease{reserved}},
		"no MAC":            {[]Lease{change(client, func(l *Lease) { l.MAC = "x" })}, []Lease{reserved}},
		"a VM that is none": {[]Lease{change(client, func(l *Lease) { l.VM = true })}, []Lease{reserved, client}},
		"no name": {
			[]Lease{change(client, func(l *Lease) { l.Host = "\x1b[2J" })},
			[]Lease{reserved, change(client, func(l *Lease) { l.Host = "" })},
		},
		"for ever": {
			[]Lease{change(client, func(l *Lease) { l.Left = 1 << 60 })},
			[]Lease{reserved, change(client, func(l *Lease) { l.Left = leaseTime })},
		},
	} {
		if got := s.Confirm(c.told); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

// A message that makes the server panic has no answer; the next one has.
func TestPanicEndsOneMessageOnly(t *testing.T) {
	broken := true
	s := newServer(t, func(c *Config) {
		c.Warn = func(string) {
			if broken {
				panic("a mistake")
			}
		}
	})
	m := message(hw(1), dhcpv4.MessageTypeRequest, dhcpv4.WithOption(dhcpv4.OptHostName("no name")))
	offer, _ := ask(t, s, message(hw(1), dhcpv4.MessageTypeDiscover))
	m.UpdateOption(dhcpv4.OptRequestedIPAddress(offer.YourIPAddr))
	frame := fromClient(m).Frame()
	if answer := s.contained(frame); answer != nil {
		t.Errorf("answered %x", answer)
	}
	broken = false
	if s.contained(frame) == nil {
		t.Error("no answer afterwards")
	}
}

// FuzzHandle feeds frames; answers must be whole and go to the client.
func FuzzHandle(f *testing.F) {
	seed := func(m *dhcpv4.DHCPv4) {
		f.Add(fromClient(m).Frame())
	}
	seed(message(hw(1), dhcpv4.MessageTypeDiscover))
	seed(message(hw(1), dhcpv4.MessageTypeRequest, requested(netip.MustParseAddr("10.91.0.9"))))
	seed(message(hw(2), dhcpv4.MessageTypeDecline, requested(netip.MustParseAddr("10.91.0.9"))))
	seed(message(hw(2), dhcpv4.MessageTypeInform))
	seed(message(hw(3), dhcpv4.MessageTypeRequest, dhcpv4.WithOption(dhcpv4.OptHostName(strings.Repeat("x", 255)))))
	bomb := message(hw(4), dhcpv4.MessageTypeDiscover)
	for code := 128; code < 250; code++ {
		bomb.UpdateOption(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(code), bytes.Repeat([]byte{1}, 3)))
	}
	seed(bomb)
	f.Add([]byte{})
	s := newServer(f, func(c *Config) { c.PXE.File = "x" })
	if _, err := s.Reserve(hw(1), netip.Addr{}, "web"); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		answer := s.handle(frame)
		if len(s.pool.leases) > 64 {
			t.Fatalf("%d leases", len(s.pool.leases))
		}
		if answer == nil {
			return
		}
		d, ok := packet.ParseDatagram(answer)
		if !ok || d.Src != gateway || d.SrcPort != 67 {
			t.Fatalf("answer %x", answer)
		}
		if xid := binary.BigEndian.Uint32(d.Payload[4:]); xid == 0 && !bytes.Contains(frame, []byte{0, 0, 0, 0}) {
			t.Fatal("another transaction")
		}
	})
}

func BenchmarkHandle(b *testing.B) {
	s := newServer(b, nil)
	if _, err := s.Reserve(hw(1), netip.Addr{}, "web"); err != nil {
		b.Fatal(err)
	}
	frame := fromClient(message(hw(1), dhcpv4.MessageTypeDiscover)).Frame()
	b.ReportAllocs()
	for b.Loop() {
		if s.handle(frame) == nil {
			b.Fatal("no answer")
		}
	}
}
