package filters

import (
	"net/netip"

	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/profiles"
)

// Promise describes the packets that a qnet network must carry: its mode, and what its
// addresses and links are.
type Promise struct {
	Name    string
	Mode    profiles.Mode
	Bridge  string
	Prefix  netip.Prefix // of host-only and nat
	Gateway netip.Addr   // the host's address in Prefix
	// Prefix6 and Gateway6 are the same of IPv6, not valid without.
	Prefix6  netip.Prefix
	Gateway6 netip.Addr
	Uplinks  []string // of nat: the links by which guests leave; of bridge: the port to the LAN
	Joined   bool     // another program made the bridge, which has ports of its own
	Zoned    bool     // qnet puts the bridge into a zone of firewalld, whose rules for it follow

	Forwards []nft.Destination // of nat: what qnet gives packets to ports of the host
}

// maxUplinks bounds for how many uplinks Packets has packets.
const maxUplinks = 8

// Addresses of packets whose real addresses are not known: a host of the Internet, and
// guests of a network without a prefix.
var (
	outside  = netip.AddrFrom4([4]byte{9, 9, 9, 9})
	outside6 = netip.MustParseAddr("2620:fe::fe")
	anyOne   = netip.AddrFrom4([4]byte{192, 168, 0, 2})
	anyTwo   = netip.AddrFrom4([4]byte{192, 168, 0, 3})
	sixOne   = netip.MustParseAddr("fe80::5054:ff:fe00:2")
	sixTwo   = netip.MustParseAddr("fe80::5054:ff:fe00:3")
)

// Ports of the packets. No firewall opens the port of service by default.
const (
	ephemeral = 45678
	service   = 34567
	dnsPort   = 53
	httpsPort = 443
)

// Packets lists the packets that must pass for the network to keep the promise of its
// mode. A reply follows its request, and first comes what a guest misses first.
func (r Ruleset) Packets(n Promise) []Packet {
	list := n.beyondGuests()
	if n.Prefix6.IsValid() {
		six := n
		six.Prefix, six.Gateway = n.Prefix6, n.Gateway6
		for _, p := range append(six.neighbors(), six.beyondGuests()...) {
			p.Name += " over IPv6"
			list = append(list, p)
		}
	}
	list = append(list, n.forwarded()...)
	return append(list, r.betweenGuests(n)...)
}

// beyondGuests are the packets between guests and host or outside, of one family.
func (n Promise) beyondGuests() []Packet {
	var list []Packet
	if n.Mode == profiles.NAT || n.Mode == profiles.HostOnly {
		list = n.withHost()
	}
	if n.Mode == profiles.NAT {
		for _, up := range n.Uplinks[:min(len(n.Uplinks), maxUplinks)] {
			list = append(list, n.outside(up)...)
		}
	}
	return list
}

// neighbors are what guests and host ask each other for MACs with, and answer (RFC 4861). The
// kernel tracks none of it.
func (n Promise) neighbors() []Packet {
	var list []Packet
	for _, kind := range []byte{neighborSolicit, neighborAdvertise} {
		in := n.toHost(ICMPv6, 0)
		in.Kind, in.Untracked, in.Name = kind, true, "what guests need to know the host's MAC"
		in.Passes = []Traffic{{In: n.Bridge, Proto: ICMPv6, Kind: kind}}
		out := Packet{
			Path: sentPath(), Out: n.Bridge, Src: n.Gateway, Dst: n.guest(), SrcLocal: true, Proto: ICMPv6, Kind: kind, Untracked: true,
			Name: "what the host needs to know guests' MACs", Passes: []Traffic{{Out: n.Bridge, Proto: ICMPv6, Kind: kind}},
		}
		list = append(list, in, out)
	}
	return list
}

// betweenGuests are the frames from port to port. The chains of ip and ip6 see them only
// with br_netfilter.
func (r Ruleset) betweenGuests(n Promise) []Packet {
	name := "what guests send each other"
	p := Packet{In: n.Bridge, Out: n.Bridge, Proto: TCP, Sport: ephemeral, Dport: service}
	if n.Mode == profiles.Bridge {
		name = "what guests and the LAN send each other"
		p.PortIn = tapPrefix + "guest0"
		if len(n.Uplinks) > 0 && n.Uplinks[0] != n.Bridge {
			p.PortOut = n.Uplinks[0]
		}
	}
	p.Passes = n.betweenPorts()
	four, six := p, p
	four.Name, four.Src, four.Dst, four.Path = name, anyOne, anyTwo, bridgedPath(r.BridgeIPv4)
	if n.Prefix.IsValid() {
		four.Src, four.Dst = n.guest(), n.guest().Next()
	}
	six.Name, six.Src, six.Dst, six.Path = name+" over IPv6", sixOne, sixTwo, bridgedPath(r.BridgeIPv6)
	return []Packet{four, four.reply(), six, six.reply()}
}

// betweenPorts is all traffic over a bridge that qnet made. Over the bridge of another
// program it is the traffic from and to the taps of qnet.
func (n Promise) betweenPorts() []Traffic {
	all := Traffic{In: n.Bridge, Out: n.Bridge}
	if !n.Joined {
		return []Traffic{all}
	}
	in, out := all, all
	in.PortIn, out.PortOut = tapPrefix, tapPrefix
	return []Traffic{in, out}
}

// tapPrefix begins the name of every tap that qnet makes (host.TapName).
const tapPrefix = "qn"

// guest is an address in the prefix other than the gateway.
func (n Promise) guest() netip.Addr { return n.Gateway.Next() }

// withHost are the packets between guests and the host: what the network needs of the host,
// and what the host sends to guests. Whether guests reach other services of the host is for
// the host's own firewall to say (toService).
func (n Promise) withHost() []Packet {
	gateway := netip.PrefixFrom(n.Gateway, n.Gateway.BitLen())
	toGuests := []Traffic{{Out: n.Bridge, Src: gateway, Dst: n.Prefix}}
	var list []Packet
	for _, service := range []struct {
		name  string
		proto byte
		port  uint16
	}{
		{"what guests ask the host's name server", UDP, dnsPort},
		{"what guests ask the host's name server over TCP", TCP, dnsPort},
		{"guests' pings of the host", pick[byte](n.Gateway.Is6(), ICMPv6, ICMP), 0},
	} {
		p := n.toHost(service.proto, service.port)
		p.Name = service.name
		p.Passes = []Traffic{{In: n.Bridge, Src: n.Prefix, Dst: gateway, Proto: service.proto, Port: service.port}}
		list = append(list, p, p.replyBy(sentPath(), toGuests))
	}
	from := Packet{
		Path: sentPath(), Out: n.Bridge, Src: n.Gateway, Dst: n.guest(), SrcLocal: true,
		Proto: TCP, Sport: ephemeral, Dport: service, Name: "what the host sends to guests", Passes: toGuests,
	}
	answers := []Traffic{{In: n.Bridge, Src: n.Prefix, Dst: gateway, Established: true}}
	return append(list, from, from.replyBy(pathToHost, answers))
}

// toHost is a guest's first packet to a port of the host.
func (n Promise) toHost(proto byte, port uint16) Packet {
	return Packet{
		Path: pathToHost, In: n.Bridge, Src: n.guest(), Dst: n.Gateway, DstLocal: true,
		Proto: proto, Sport: ephemeral, Dport: port,
	}
}

// outside are the packets between guests and the outside by an uplink.
func (n Promise) outside(uplink string) []Packet {
	out := Packet{
		Path: pathThroughHost, In: n.Bridge, Out: uplink, Src: n.guest(), Dst: pick(n.Gateway.Is6(), outside6, outside),
		Proto: TCP, Sport: ephemeral, Dport: httpsPort, Name: "what guests send to the outside",
	}
	out.Passes = []Traffic{{In: n.Bridge}}
	back := out.reply()
	back.Passes = []Traffic{{Out: n.Bridge, Established: true}}
	back.Path = []Stage{
		{false, nft.Ingress},
		{false, nft.Prerouting},
		{false, nft.Forward},
		{false, nft.Postrouting},
		{true, nft.Output},
		{true, nft.Postrouting},
		{false, nft.Egress},
	}
	back.Name, back.Reply = "what the outside answers guests", false // a name of its own
	return []Packet{out, back}
}

// reply is the reply to the packet, on the same path.
func (p Packet) reply() Packet {
	p.In, p.Out, p.PortIn, p.PortOut = p.Out, p.In, p.PortOut, p.PortIn
	p.Src, p.Dst, p.SrcLocal, p.DstLocal = p.Dst, p.Src, p.DstLocal, p.SrcLocal
	p.Sport, p.Dport, p.Established = p.Dport, p.Sport, true
	p.Reply = true
	return p
}

// replyBy is the reply to the packet, on a path of its own.
func (p Packet) replyBy(path []Stage, passes []Traffic) Packet {
	p = p.reply()
	p.Path, p.Passes = path, passes
	return p
}

// bridgedPath is the path of a frame from one port of a bridge to another. With calls,
// br_netfilter shows it to the chains of ip and ip6.
func bridgedPath(calls bool) []Stage {
	path := []Stage{{false, nft.Ingress}}
	for _, h := range []nft.Hook{nft.Prerouting, nft.Forward, nft.Postrouting} {
		path = append(path, Stage{true, h})
		if calls {
			path = append(path, Stage{false, h})
		}
	}
	return append(path, Stage{false, nft.Egress})
}

// The paths of a guest's packet to the host, and through it. Nothing may change them.
var (
	pathToHost      = routedPath(nft.Input)
	pathThroughHost = routedPath(nft.Forward)
)

// routedPath is the path of a guest's packet to the host (Input) or through it (Forward).
func routedPath(h nft.Hook) []Stage {
	path := []Stage{{true, nft.Prerouting}, {true, nft.Input}, {false, nft.Ingress}, {false, nft.Prerouting}, {false, h}}
	if h == nft.Forward {
		path = append(path, Stage{false, nft.Postrouting}, Stage{false, nft.Egress})
	}
	return path
}

// sentPath is the path of a packet that the host sends to a guest.
func sentPath() []Stage {
	return []Stage{{false, nft.Output}, {false, nft.Postrouting}, {true, nft.Output}, {true, nft.Postrouting}, {false, nft.Egress}}
}
