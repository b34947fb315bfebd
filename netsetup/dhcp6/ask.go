package dhcp6

import (
	"net"
	"net/netip"

	"github.com/qnet-vm/qnet/internal/packet"
)

// optElapsed is the option in which a client says how long it has asked, in hundredths of a
// second (RFC 8415, section 21.9).
const optElapsed = 8

// Ask returns the frame by which a client asks for its address in one exchange.
func Ask(mac net.HardwareAddr, xid [3]byte) []byte {
	b := append([]byte{solicit}, xid[:]...)
	b = appendOption(b, optClientID, duid(mac)...)
	b = appendOption(b, optElapsed, 0, 0)
	b = appendOption(b, optRapidCommit)
	b = appendOption(b, optIANA, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0)
	return packet.Datagram{
		SrcMAC: mac, DstMAC: packet.MulticastMAC(servers), Src: packet.EUI64(packet.LinkLocal, mac), Dst: servers,
		SrcPort: clientPort, DstPort: serverPort, Payload: b,
	}.FrameIPv6()
}

// Given is what a server gives a client.
type Given struct {
	Address    netip.Addr // zero if the server refuses
	NameServer netip.Addr // the first one; zero without
}

// ParseGiven reads the frame of a server's answer to Ask.
func ParseGiven(frame []byte, xid [3]byte) (Given, bool) {
	d, ok := packet.ParseDatagramIPv6(frame)
	if !ok || d.SrcPort != serverPort || d.DstPort != clientPort || len(d.Payload) < headerLen {
		return Given{}, false
	}
	if kind := d.Payload[0]; kind != reply && kind != advertise || [3]byte(d.Payload[1:headerLen]) != xid {
		return Given{}, false
	}
	var g Given
	for code, value := range options(d.Payload[headerLen:]) {
		switch {
		case code == optNameServers && len(value) >= 16:
			g.NameServer = netip.AddrFrom16([16]byte(value[:16]))
		case code == optIANA && len(value) >= iaLen && d.Payload[0] == reply:
			g.Address = addressOf(value[iaLen:])
		}
	}
	return g, true
}

// addressOf is the address among the options of an association; zero without one.
func addressOf(b []byte) netip.Addr {
	for code, value := range options(b) {
		if code == optAddress && len(value) >= addressLen {
			return netip.AddrFrom16([16]byte(value[:16]))
		}
	}
	return netip.Addr{}
}
