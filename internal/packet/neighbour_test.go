package packet

import (
	"encoding/hex"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
)

// Frames written out from RFC 826 and RFC 4861: questions, and the answers to them. The
// checksums of ICMPv6 are left out.
const (
	arpRequest = "ffffffffffff 525400000001 0806 0001 0800 06 04 0001 525400000001 c000020a 000000000000 c0000201"
	arpReply   = "525400000001 020000000001 0806 0001 0800 06 04 0002 020000000001 c0000201 525400000001 c000020a"
	// fe80::5054:ff:fe00:1 asks for fe80::1.
	solicitation  = "3333ff000001 525400000001 86dd 60000000 0020 3a ff fe80000000000000505400fffe000001 ff0200000000000000000001ff000001 8700 0000 00000000 fe800000000000000000000000000001 0101 525400000001"
	advertisement = "525400000001 020000000001 86dd 60000000 0020 3a ff fe800000000000000000000000000001 fe80000000000000505400fffe000001 8800 0000 60000000 fe800000000000000000000000000001 0201 020000000001"
)

func frame(t *testing.T, words string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(words, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var (
	ours   = net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}
	theirs = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	ip4    = netip.MustParseAddr("192.0.2.10")
	gw4    = netip.MustParseAddr("192.0.2.1")
	ip6    = netip.MustParseAddr("fe80::5054:ff:fe00:1")
	gw6    = netip.MustParseAddr("fe80::1")
)

func TestQuestions(t *testing.T) {
	if got := ARPRequest(ours, ip4, gw4); hex.EncodeToString(got) != hex.EncodeToString(frame(t, arpRequest)) {
		t.Errorf("ARP request: %x", got)
	}
	probe := frame(t, arpRequest)
	clear(probe[28:32])
	if got := ARPRequest(ours, netip.Addr{}, gw4); hex.EncodeToString(got) != hex.EncodeToString(probe) {
		t.Errorf("ARP probe: %x", got)
	}
	got := NeighbourSolicitation(ours, ip6, gw6)
	want := frame(t, solicitation)
	copy(want[56:], got[56:58]) // the checksum: see holds
	if hex.EncodeToString(got) != hex.EncodeToString(want) || !holds(got) {
		t.Errorf("solicitation:\n%x, want\n%x, checksum %v", got, want, holds(got))
	}
	if got := NeighbourSolicitation(ours, netip.IPv6Unspecified(), gw6); len(got) != len(want)-8 || !holds(got) {
		t.Errorf("a probe names no MAC: %x", got)
	}
	if got := RouterSolicitation(ours, ip6); got[54] != routerSolicitation || got[5] != 2 || !holds(got) {
		t.Errorf("router solicitation: %x", got)
	}
	if got := GratuitousARP(ours, ip4); string(got[28:32]) != string(got[38:42]) {
		t.Errorf("gratuitous ARP: %x", got)
	}
	if got := UnsolicitedAdvertisement(ours, ip6); got[54] != neighbourAdvertisement || got[58] != 0x20 || !holds(got) {
		t.Errorf("unsolicited advertisement: %x", got)
	}
}

// holds reports whether an ICMPv6 message has the checksum of RFC 8200, 8.1.
func holds(b []byte) bool {
	message := b[EtherLen+ipv6Len:]
	return checksum(message, sum(b[EtherLen+8:EtherLen+ipv6Len], 58+uint32(len(message)))) == 0
}

func TestNeighbour(t *testing.T) {
	short := frame(t, advertisement)
	noOption := append(append([]byte{}, short[:78]...), 0, 0)
	otherType := frame(t, advertisement)
	otherType[54] = 135
	filter, err := bpf.NewVM(Neighbours)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		frame  []byte
		addr   netip.Addr
		ok     bool
		passes bool
	}{
		{"ARP reply", frame(t, arpReply), gw4, true, true},
		{"ARP request", frame(t, arpRequest), ip4, false, true},
		{"advertisement", frame(t, advertisement), gw6, true, true},
		{"advertisement without a MAC", noOption, gw6, true, true},
		{"solicitation", otherType, netip.Addr{}, false, false},
		{"advertisement cut off", short[:77], netip.Addr{}, false, true},
		{"IPv4", Datagram{SrcMAC: theirs, DstMAC: ours, Src: gw4, Dst: ip4, Payload: make([]byte, 9)}.Frame(), netip.Addr{}, false, false},
		{"nothing", nil, netip.Addr{}, false, false},
	} {
		addr, mac, ok := Neighbour(c.frame)
		if ok != c.ok || ok && (addr != c.addr || mac.String() != theirs.String()) {
			t.Errorf("%s: got %s, %s, %v", c.name, addr, mac, ok)
		}
		if n, err := filter.Run(c.frame); err != nil || n > 0 != c.passes {
			t.Errorf("%s: the filter passes %d bytes, %v", c.name, n, err)
		}
	}
}

func TestDatagram(t *testing.T) {
	d := Datagram{SrcMAC: theirs, DstMAC: ours, Src: gw4, Dst: ip4, SrcPort: 67, DstPort: 68, Payload: []byte("payload")}
	good := d.Frame()
	got, ok := ParseDatagram(append(good, 0, 0, 0)) // Ethernet pads short frames
	if !ok || got.Src != d.Src || got.Dst != d.Dst || got.SrcPort != 67 || got.DstPort != 68 || string(got.Payload) != "payload" || got.SrcMAC.String() != theirs.String() {
		t.Errorf("got %+v, %v", got, ok)
	}
	if c := checksum(good[EtherLen+ipLen:], pseudo(good[EtherLen:], len(good)-EtherLen-ipLen)); c != 0 {
		t.Errorf("checksum is off by %x", c)
	}
	// The payload whose checksum comes out as 0, which means "none" (RFC 768).
	d.Payload = []byte{0, 0}
	zero := d.Frame()
	copy(d.Payload, zero[EtherLen+ipLen+6:EtherLen+ipLen+8])
	if b := d.Frame(); b[EtherLen+ipLen+6] != 0xff || b[EtherLen+ipLen+7] != 0xff {
		t.Errorf("checksum %x, want ffff", b[EtherLen+ipLen+6:EtherLen+ipLen+8])
	}
	with := func(at int, v byte) []byte {
		b := append([]byte{}, good...)
		b[at] = v
		return b
	}
	for name, bad := range map[string][]byte{
		"nothing": nil, "half a header": good[:30], "IPv6": with(12, 0x86), "TCP": with(EtherLen+9, 6), "a fragment": with(EtherLen+6, 0x20),
		"longer than the frame": with(EtherLen+2, 1), "a short header": with(EtherLen, 0x41), "a short UDP length": with(EtherLen+ipLen+5, 7),
		"a long UDP length": with(EtherLen+ipLen+4, 1),
	} {
		if d, ok := ParseDatagram(bad); ok {
			t.Errorf("%s: took %+v", name, d)
		}
	}
}
