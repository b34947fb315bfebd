package ra

import (
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/packet"
)

// Advertised is what an advertisement tells a guest.
type Advertised struct {
	Router     netip.Addr    // link-local
	Lifetime   time.Duration // of the default route by Router, 0 for none
	Prefix     netip.Prefix  // the last one that makes addresses; not valid without
	NameServer netip.Addr    // the first one; zero without
	MTU        int           // bytes; 0 without
}

// Parse reads an advertisement that is valid by RFC 4861, section 6.1.2, but for its checksum.
func Parse(frame []byte) (Advertised, bool) {
	p, ok := packet.ParseIPv6(frame)
	if !ok || p.Protocol != unix.IPPROTO_ICMPV6 || p.HopLimit != hopLimit || !p.Src.IsLinkLocalUnicast() || len(p.Payload) < 16 || p.Payload[0] != typeAdvertisement {
		return Advertised{}, false
	}
	a := Advertised{Router: p.Src, Lifetime: time.Duration(binary.BigEndian.Uint16(p.Payload[6:])) * time.Second}
	for options := p.Payload[16:]; len(options) > 0; {
		length := 8 * int(options[min(1, len(options)-1)])
		if length == 0 || length > len(options) {
			return Advertised{}, false
		}
		a.take(options[:length])
		options = options[length:]
	}
	return a, true
}

// take notes an option.
func (a *Advertised) take(o []byte) {
	switch {
	case o[0] == optionPrefix && len(o) == 32 && o[3]&0x40 != 0 && o[2] <= 128:
		a.Prefix = netip.PrefixFrom(netip.AddrFrom16([16]byte(o[16:32])), int(o[2])).Masked()
	case o[0] == optionMTU && len(o) == 8:
		a.MTU = int(binary.BigEndian.Uint32(o[4:]))
	case o[0] == optionNameServers && len(o) >= 24 && !a.NameServer.IsValid():
		a.NameServer = netip.AddrFrom16([16]byte(o[8:24]))
	}
}
