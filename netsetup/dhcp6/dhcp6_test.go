package dhcp6

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/qnet-vm/qnet/internal/packet"
)

var (
	prefix  = netip.MustParsePrefix("fd77:1:2:3::/64")
	gateway = netip.MustParseAddr("fd77:1:2:3::1")
	address = netip.MustParseAddr("fd77:1:2:3::a4d:b")
	hostMAC = net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}
	iaid    = [4]byte{1, 2, 3, 4}
)

func hw(n byte) net.HardwareAddr { return net.HardwareAddr{0x52, 0x54, 1, 0, 0, n} }

// newServer serves prefix; hw(1) is the NIC of VM web.
func newServer(t testing.TB, change func(*Config)) *Server {
	t.Helper()
	c := Config{MAC: hostMAC, Prefix: prefix, Address: gateway, Domain: "qnet", MTU: 1500}
	if change != nil {
		change(&c)
	}
	s := New(c)
	s.Reserve(hw(1), address, "web")
	return s
}

// message is a client's, of another implementation.
func newMessage(t testing.TB, kind dhcpv6.MessageType, options ...dhcpv6.Modifier) *dhcpv6.Message {
	t.Helper()
	m, err := dhcpv6.NewMessage(append([]dhcpv6.Modifier{clientID, func(d dhcpv6.DHCPv6) { d.(*dhcpv6.Message).MessageType = kind }}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func clientID(d dhcpv6.DHCPv6) {
	dhcpv6.WithClientID(&dhcpv6.DUIDLLT{HWType: iana.HWTypeEthernet, Time: 7, LinkLayerAddr: hw(77)})(d)
}

func serverID(d dhcpv6.DHCPv6) {
	dhcpv6.WithServerID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: hostMAC})(d)
}

func iana1(list ...netip.Addr) dhcpv6.Modifier {
	return func(d dhcpv6.DHCPv6) {
		x := &dhcpv6.OptIANA{IaId: iaid}
		for _, a := range list {
			x.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: a.AsSlice()})
		}
		d.AddOption(x)
	}
}

// datagram is a message on its way from a MAC.
func datagram(from net.HardwareAddr, payload []byte) packet.Datagram {
	return packet.Datagram{
		SrcMAC: from, DstMAC: packet.MulticastMAC(servers), Src: packet.EUI64(packet.LinkLocal, from), Dst: servers,
		SrcPort: clientPort, DstPort: serverPort, Payload: payload,
	}
}

// ask returns the answer to a message, as another implementation reads it; nil if there is none.
func ask(t testing.TB, s *Server, from net.HardwareAddr, m *dhcpv6.Message) *dhcpv6.Message {
	t.Helper()
	frame := s.handle(datagram(from, m.ToBytes()).FrameIPv6())
	if frame == nil {
		return nil
	}
	d, ok := packet.ParseDatagramIPv6(frame)
	if !ok || !bytes.Equal(d.DstMAC, from) || d.Dst != packet.EUI64(packet.LinkLocal, from) || d.SrcPort != 547 || d.DstPort != 546 || !bytes.Equal(d.SrcMAC, hostMAC) {
		t.Fatalf("answer %x", frame)
	}
	if p, _ := packet.ParseIPv6(frame); !bytes.Equal(p.Frame(), frame) {
		t.Errorf("wrong checksum: %x", frame)
	}
	r, err := dhcpv6.MessageFromBytes(d.Payload)
	if err != nil {
		t.Fatal(err)
	}
	if r.TransactionID != m.TransactionID {
		t.Errorf("transaction %s, want %s", r.TransactionID, m.TransactionID)
	}
	if id := m.Options.ClientID(); id != nil && !id.Equal(r.Options.ClientID()) {
		t.Errorf("client %s, want %s", r.Options.ClientID(), id)
	}
	if got := r.Options.ServerID().String(); got != (&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: hostMAC}).String() {
		t.Errorf("server %s", got)
	}
	return r
}

// addressIn is the address with a lifetime in an answer.
func addressIn(r *dhcpv6.Message) netip.Addr {
	for _, x := range r.Options.IANA() {
		for _, a := range x.Options.Addresses() {
			if a.ValidLifetime > 0 {
				got, _ := netip.AddrFromSlice(a.IPv6Addr)
				return got
			}
		}
	}
	return netip.Addr{}
}

func statusOf(o interface{ Status() *dhcpv6.OptStatusCode }) iana.StatusCode {
	if s := o.Status(); s != nil {
		return s.StatusCode
	}
	return iana.StatusSuccess
}

// A guest gets the address of its NIC by two exchanges or by one, with the network's options.
func TestLease(t *testing.T) {
	s := newServer(t, nil)
	offer := ask(t, s, hw(1), newMessage(t, dhcpv6.MessageTypeSolicit, iana1()))
	if offer.MessageType != dhcpv6.MessageTypeAdvertise || addressIn(offer) != address || offer.GetOneOption(dhcpv6.OptionPreference) == nil {
		t.Errorf("offer: %s", offer.Summary())
	}
	if got := s.Lookup("web"); got != nil {
		t.Errorf("an offer is no lease: %v", got)
	}
	r := ask(t, s, hw(1), newMessage(t, dhcpv6.MessageTypeRequest, serverID, iana1(address)))
	x := r.Options.OneIANA()
	if r.MessageType != dhcpv6.MessageTypeReply || addressIn(r) != address || x.IaId != iaid || x.T1 != leaseTime/2 || x.T2 != leaseTime*4/5 || x.Options.OneAddress().PreferredLifetime != leaseTime {
		t.Errorf("reply: %s", r.Summary())
	}
	if dns := r.Options.DNS(); len(dns) != 1 || !dns[0].Equal(gateway.AsSlice()) || r.Options.DomainSearchList().Labels[0] != "qnet" {
		t.Errorf("DNS: %s", r.Summary())
	}
	if got := s.Lookup("web"); !slices.Equal(got, []netip.Addr{address}) {
		t.Errorf("names: %v", got)
	}

	s = newServer(t, func(c *Config) { c.Domain = "" })
	r = ask(t, s, hw(1), newMessage(t, dhcpv6.MessageTypeSolicit, iana1(), dhcpv6.WithRapidCommit))
	if r.MessageType != dhcpv6.MessageTypeReply || addressIn(r) != address || r.GetOneOption(dhcpv6.OptionRapidCommit) == nil || r.Options.DNS() != nil {
		t.Errorf("rapid commit: %s", r.Summary())
	}
}

// Each kind of message, by who sends it and what it holds.
func TestAnswers(t *testing.T) {
	other, foreign := netip.MustParseAddr("fd77:1:2:3::99"), netip.MustParseAddr("2001:db8::1")
	wrongServer := dhcpv6.WithServerID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: hw(9)})
	anonymous := func(d dhcpv6.DHCPv6) { d.(*dhcpv6.Message).Options.Del(dhcpv6.OptionClientID) }
	const none = iana.StatusCode(99) // no answer
	for _, c := range []struct {
		name    string
		from    byte
		kind    dhcpv6.MessageType
		options []dhcpv6.Modifier
		status  iana.StatusCode // the answer's or that of its first association
		address netip.Addr
	}{
		{"solicit of a stranger", 2, dhcpv6.MessageTypeSolicit, []dhcpv6.Modifier{iana1()}, iana.StatusNoAddrsAvail, netip.Addr{}},
		{"solicit in haste of a stranger", 2, dhcpv6.MessageTypeSolicit, []dhcpv6.Modifier{iana1(), dhcpv6.WithRapidCommit}, iana.StatusNoAddrsAvail, netip.Addr{}},
		{"solicit with a wish", 1, dhcpv6.MessageTypeSolicit, []dhcpv6.Modifier{iana1(other)}, iana.StatusSuccess, address},
		{"solicit to a server", 1, dhcpv6.MessageTypeSolicit, []dhcpv6.Modifier{serverID, iana1()}, none, netip.Addr{}},
		{"solicit of nobody", 1, dhcpv6.MessageTypeSolicit, []dhcpv6.Modifier{anonymous, iana1()}, none, netip.Addr{}},
		{"request of another server", 1, dhcpv6.MessageTypeRequest, []dhcpv6.Modifier{wrongServer, iana1(address)}, none, netip.Addr{}},
		{"request of a stranger", 2, dhcpv6.MessageTypeRequest, []dhcpv6.Modifier{serverID, iana1(address)}, iana.StatusNoAddrsAvail, netip.Addr{}},
		{"renew", 1, dhcpv6.MessageTypeRenew, []dhcpv6.Modifier{serverID, iana1(address)}, iana.StatusSuccess, address},
		{"renew of another address", 1, dhcpv6.MessageTypeRenew, []dhcpv6.Modifier{serverID, iana1(other)}, iana.StatusSuccess, address},
		{"renew of a stranger", 2, dhcpv6.MessageTypeRenew, []dhcpv6.Modifier{serverID, iana1(other)}, iana.StatusNoBinding, netip.Addr{}},
		{"rebind", 1, dhcpv6.MessageTypeRebind, []dhcpv6.Modifier{iana1(address)}, iana.StatusSuccess, address},
		{"rebind of a stranger", 2, dhcpv6.MessageTypeRebind, []dhcpv6.Modifier{iana1(address)}, none, netip.Addr{}},
		{"confirm", 1, dhcpv6.MessageTypeConfirm, []dhcpv6.Modifier{iana1(address)}, iana.StatusSuccess, netip.Addr{}},
		{"confirm of another network's", 1, dhcpv6.MessageTypeConfirm, []dhcpv6.Modifier{iana1(foreign)}, iana.StatusNotOnLink, netip.Addr{}},
		{"confirm of nothing", 1, dhcpv6.MessageTypeConfirm, []dhcpv6.Modifier{iana1()}, none, netip.Addr{}},
		{"release", 1, dhcpv6.MessageTypeRelease, []dhcpv6.Modifier{serverID, iana1(address)}, iana.StatusSuccess, netip.Addr{}},
		{"decline", 1, dhcpv6.MessageTypeDecline, []dhcpv6.Modifier{serverID, iana1(address)}, iana.StatusSuccess, netip.Addr{}},
		{"information", 2, dhcpv6.MessageTypeInformationRequest, nil, iana.StatusSuccess, netip.Addr{}},
		{"information of nobody", 2, dhcpv6.MessageTypeInformationRequest, []dhcpv6.Modifier{anonymous}, iana.StatusSuccess, netip.Addr{}},
		{"information with an address", 2, dhcpv6.MessageTypeInformationRequest, []dhcpv6.Modifier{iana1()}, none, netip.Addr{}},
		{"a server's message", 1, dhcpv6.MessageTypeReply, []dhcpv6.Modifier{serverID, iana1(address)}, none, netip.Addr{}},
		{"reconfigure", 1, dhcpv6.MessageTypeReconfigure, []dhcpv6.Modifier{serverID}, none, netip.Addr{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := ask(t, newServer(t, nil), hw(c.from), newMessage(t, c.kind, c.options...))
			if r == nil || c.status == none {
				if r != nil || c.status != none {
					t.Errorf("answer %v, want %v", r, c.status)
				}
				return
			}
			status := iana.StatusSuccess
			if top := r.Options.Status(); top != nil {
				status = top.StatusCode
			}
			if x := r.Options.OneIANA(); x != nil && status == iana.StatusSuccess {
				status = statusOf(&x.Options)
			}
			if got := addressIn(r); status != c.status || got != c.address {
				t.Errorf("%s, address %s, want %s, %s: %s", status, got, c.status, c.address, r.Summary())
			}
			if s := r.Options.DNS(); status == iana.StatusSuccess && s == nil && c.kind != dhcpv6.MessageTypeRelease && c.kind != dhcpv6.MessageTypeDecline {
				t.Errorf("no DNS: %s", r.Summary())
			}
		})
	}
}

// A second association, a temporary address and a prefix are refused, each by its own status.
func TestOtherAssociations(t *testing.T) {
	s := newServer(t, nil)
	r := ask(t, s, hw(1), newMessage(t, dhcpv6.MessageTypeSolicit, iana1(), func(d dhcpv6.DHCPv6) {
		d.AddOption(&dhcpv6.OptIANA{IaId: [4]byte{5}})
		d.AddOption(&dhcpv6.OptIATA{IaId: [4]byte{6}})
		d.AddOption(&dhcpv6.OptIAPD{IaId: [4]byte{7}})
	}))
	list := r.Options.IANA()
	if len(list) != 2 || addressIn(r) != address || statusOf(&list[1].Options) != iana.StatusNoAddrsAvail {
		t.Errorf("addresses: %s", r.Summary())
	}
	if got := r.Options.OneIATA(); got == nil || statusOf(&got.Options) != iana.StatusNoAddrsAvail {
		t.Errorf("temporary address: %s", r.Summary())
	}
	if got := r.Options.OneIAPD(); got == nil || got.Options.Status().StatusCode != iana.StatusNoPrefixAvail {
		t.Errorf("prefix: %s", r.Summary())
	}
}

// What is not from a client on the link, or not for all servers, has no answer.
func TestEnvelope(t *testing.T) {
	s := newServer(t, nil)
	m := newMessage(t, dhcpv6.MessageTypeSolicit, iana1()).ToBytes()
	relayed := append([]byte{12, 0}, append(make([]byte, 32), append([]byte{0, 9, 0, byte(len(m))}, m...)...)...)
	for name, change := range map[string]func(*packet.Datagram){
		"to the host alone":  func(d *packet.Datagram) { d.Dst = gateway },
		"to another port":    func(d *packet.Datagram) { d.DstPort = 548 },
		"from a global":      func(d *packet.Datagram) { d.Src = address },
		"from no address":    func(d *packet.Datagram) { d.Src = netip.IPv6Unspecified() },
		"from a group's MAC": func(d *packet.Datagram) { d.SrcMAC = packet.MulticastMAC(servers) },
		"of a relay":         func(d *packet.Datagram) { d.Payload = relayed },
		"cut off":            func(d *packet.Datagram) { d.Payload = d.Payload[:len(d.Payload)-1] },
		"empty":              func(d *packet.Datagram) { d.Payload = nil },
	} {
		d := datagram(hw(1), m)
		change(&d)
		if answer := s.handle(d.FrameIPv6()); answer != nil {
			t.Errorf("%s: %x", name, answer)
		}
	}
	if s.handle(datagram(hw(1), m).FrameIPv6()) == nil {
		t.Error("no answer to the whole one")
	}
}

// A name leads to the lease while the guest has it, else to what the guest was seen to use:
// the reserved address, the one of its MAC, the newest.
func TestNames(t *testing.T) {
	s := newServer(t, nil)
	now := time.Now()
	s.now = func() time.Time { return now }
	mine, private, newer := packet.EUI64(prefix, hw(1)), netip.MustParseAddr("fd77:1:2:3::aaaa"), netip.MustParseAddr("fd77:1:2:3::bbbb")
	s.Reserve(hw(2), netip.MustParseAddr("fd77:1:2:3::2"), "db")
	is := func(what string, want ...netip.Addr) {
		t.Helper()
		if got := s.Lookup("web"); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	is("at first")
	s.Saw(hw(1), []netip.Addr{netip.MustParseAddr("2001:db8::1"), gateway, netip.MustParseAddr("fd77:1:2:3::2")})
	is("other addresses")
	s.Saw(hw(1), []netip.Addr{newer, private})
	is("seen", newer)
	if got := s.Reverse(private); got != "web" {
		t.Errorf("%s is %q", private, got)
	}
	s.Saw(hw(1), []netip.Addr{newer, mine, private})
	is("of its MAC", mine)
	ask(t, s, hw(1), newMessage(t, dhcpv6.MessageTypeRequest, serverID, iana1(address)))
	is("lease", address)
	now = now.Add(leaseTime + time.Second)
	is("after the lease", mine)
	ask(t, s, hw(1), newMessage(t, dhcpv6.MessageTypeConfirm, iana1(address)))
	is("confirmed", address)
	ask(t, s, hw(1), newMessage(t, dhcpv6.MessageTypeRelease, serverID, iana1(address)))
	is("given back", mine)
	s.Saw(hw(1), []netip.Addr{mine, address})
	is("the reserved one, seen", address)
	if got := s.Reverse(address); got != "web" {
		t.Errorf("%s is %q", address, got)
	}
	s.Release(hw(1))
	is("gone")
	if s.Reverse(address) != "" || s.Reverse(mine) != "" || len(s.holders) != 1 {
		t.Error("a name is left")
	}
}

// A guest that finds its address in use is heard, once a minute.
func TestDecline(t *testing.T) {
	var told []string
	s := newServer(t, func(c *Config) { c.Warn = func(text string) { told = append(told, text) } })
	for range 3 {
		ask(t, s, hw(1), newMessage(t, dhcpv6.MessageTypeDecline, serverID, iana1(address)))
	}
	if len(told) != 1 || told[0] != `VM "web" found its address fd77:1:2:3::a4d:b in use by another host` {
		t.Errorf("told %q", told)
	}
}

// A message that makes the server panic costs its sender the answer.
func TestPanicEndsOneMessageOnly(t *testing.T) {
	broken := true
	s := newServer(t, func(c *Config) {
		c.Warn = func(string) {
			if broken {
				panic("a mistake")
			}
		}
	})
	frame := datagram(hw(1), newMessage(t, dhcpv6.MessageTypeDecline, serverID, iana1(address)).ToBytes()).FrameIPv6()
	if answer := s.contained(frame); answer != nil {
		t.Errorf("answered %x", answer)
	}
	broken = false
	if s.contained(frame) == nil {
		t.Error("no answer afterwards")
	}
}

// A client's question in one exchange has an answer that it reads, and another client reads nothing.
func TestAsk(t *testing.T) {
	s := newServer(t, nil)
	xid := [3]byte{1, 2, 3}
	frame := s.handle(Ask(hw(1), xid))
	if got, ok := ParseGiven(frame, xid); !ok || got != (Given{address, gateway}) {
		t.Errorf("got %+v, %v", got, ok)
	}
	if got, ok := ParseGiven(s.handle(Ask(hw(2), xid)), xid); !ok || got != (Given{NameServer: gateway}) {
		t.Errorf("a stranger: %+v, %v", got, ok)
	}
	if got, ok := ParseGiven(frame, [3]byte{}); ok {
		t.Errorf("another transaction: %+v", got)
	}
}

// FuzzGiven reads any frame as an answer.
func FuzzGiven(f *testing.F) {
	xid := [3]byte{1, 2, 3}
	f.Add(newServer(f, nil).handle(Ask(hw(1), xid)))
	f.Add(Ask(hw(1), xid))
	f.Fuzz(func(_ *testing.T, frame []byte) { ParseGiven(frame, xid) })
}

// FuzzHandle reads any frame: an answer is well formed, to the sender, and no client appears.
func FuzzHandle(f *testing.F) {
	seed := func(kind dhcpv6.MessageType, options ...dhcpv6.Modifier) {
		f.Add(datagram(hw(1), newMessage(f, kind, options...).ToBytes()).FrameIPv6())
	}
	seed(dhcpv6.MessageTypeSolicit, iana1(), dhcpv6.WithRapidCommit)
	seed(dhcpv6.MessageTypeRequest, serverID, iana1(address))
	seed(dhcpv6.MessageTypeRenew, serverID, iana1(gateway, address))
	seed(dhcpv6.MessageTypeConfirm, iana1(address))
	seed(dhcpv6.MessageTypeDecline, serverID, iana1(address))
	seed(dhcpv6.MessageTypeInformationRequest)
	f.Add(datagram(hw(1), append([]byte{12, 0}, make([]byte, 40)...)).FrameIPv6()) // relayed
	many := newMessage(f, dhcpv6.MessageTypeSolicit)
	for range 90 { // more associations than are answered
		many.AddOption(&dhcpv6.OptIANA{})
	}
	f.Add(datagram(hw(2), many.ToBytes()).FrameIPv6())
	f.Add(packet.RouterSolicitation(hw(1), packet.EUI64(packet.LinkLocal, hw(1))))
	f.Add([]byte{})
	s := newServer(f, nil)
	s.conn = nil // an answer to a solicitation has nowhere to go
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) > 54 && frame[54] == 133 {
			return // ra's own target
		}
		answer := s.handle(frame)
		if len(s.clients) != 1 || len(s.clients[mac(hw(1))].seen) != 0 {
			t.Fatal("a client appeared")
		}
		if answer == nil {
			return
		}
		d, ok := packet.ParseDatagramIPv6(answer)
		if !ok || !bytes.Equal(d.DstMAC, frame[6:12]) || len(answer) > 1514 {
			t.Fatalf("answer %x", answer)
		}
		if _, err := dhcpv6.MessageFromBytes(d.Payload); err != nil {
			t.Fatalf("%v: %x", err, answer)
		}
	})
}

// More work for the garbage collector is noticed here, whatever the machine's speed.
func TestAllocations(t *testing.T) {
	s := newServer(t, nil)
	for kind, most := range map[dhcpv6.MessageType]float64{dhcpv6.MessageTypeSolicit: 12, dhcpv6.MessageTypeRequest: 12} {
		options := []dhcpv6.Modifier{iana1(address)}
		if kind == dhcpv6.MessageTypeRequest {
			options = append(options, serverID)
		}
		frame := datagram(hw(1), newMessage(t, kind, options...).ToBytes()).FrameIPv6()
		got := testing.AllocsPerRun(100, func() {
			if s.handle(frame) == nil {
				t.Fatal("no answer")
			}
		})
		t.Logf("%s: %v", kind, got)
		if got > most {
			t.Errorf("%s: %v allocations, want %v at most", kind, got, most)
		}
	}
}
