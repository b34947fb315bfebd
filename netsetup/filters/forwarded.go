package filters

import (
	"fmt"
	"net/netip"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// maxForwarded is how many ports of a guest get an accept each. A guest with more gets one
// for all: qnet's own rules let no other ports pass.
const maxForwarded = 8

// pathForwarded is the path of a packet behind the rule that changed its destination.
var pathForwarded = []Stage{
	{false, nft.Forward},
	{false, nft.Postrouting},
	{true, nft.Output},
	{true, nft.Postrouting},
	{false, nft.Egress},
}

// forwarded are the first packets of other machines' connections to forwarded ports, as they come
// from the first uplink.
func (n Promise) forwarded() []Packet {
	ports := map[netip.Addr]int{}
	for _, f := range n.Forwards {
		ports[f.Guest.Addr()]++
	}
	if len(ports) == 0 || len(n.Uplinks) == 0 {
		return nil
	}
	var list []Packet
	for _, f := range n.Forwards {
		p := Packet{
			Path: pathForwarded, In: n.Uplinks[0], Out: n.Bridge, Src: outside, Dst: f.Guest.Addr(),
			Proto: pick[byte](f.Proto == "udp", UDP, TCP), Sport: ephemeral, Dport: f.Guest.Port(), DNAT: true,
			Name: fmt.Sprintf("what others send to %s port %d of %s", f.Proto, f.Guest.Port(), f.Guest.Addr()),
		}
		t := Traffic{Out: n.Bridge, Dst: netip.PrefixFrom(p.Dst, p.Dst.BitLen()), Proto: p.Proto, Port: p.Dport, DNAT: true}
		if ports[p.Dst] > maxForwarded {
			t.Proto, t.Port = 0, 0
		}
		p.Passes = []Traffic{t}
		list = append(list, p)
	}
	return list
}
