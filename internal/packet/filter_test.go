package packet

import (
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/net/bpf"
)

func TestUDPTo(t *testing.T) {
	filter, err := bpf.NewVM(UDPTo(67))
	if err != nil {
		t.Fatal(err)
	}
	datagram := Datagram{
		SrcMAC: Broadcast, DstMAC: Broadcast, Src: netip.IPv4Unspecified(), Dst: netip.MustParseAddr("255.255.255.255"),
		SrcPort: 68, DstPort: 67, Payload: make([]byte, 300),
	}
	frame := datagram.Frame()
	otherPort := datagram
	otherPort.SrcPort, otherPort.DstPort = 67, 68
	with := func(offset int, bytes ...byte) []byte {
		b := slices.Clone(frame)
		copy(b[EtherLen+offset:], bytes)
		return b
	}
	// A header of 24 bytes puts the ports 4 bytes further on; without a look at its
	// length, the option 00 43 (67) would be taken for the port.
	options := func(port byte) []byte {
		b := slices.Insert(with(0, 0x46), EtherLen+ipLen, 0, 0, 0, 67)
		b[EtherLen+ipLen+4+3] = port
		return b
	}
	for _, c := range []struct {
		name  string
		frame []byte
		pass  bool
	}{
		{"the port", frame, true},
		{"another port", otherPort.Frame(), false},
		{"a port whose low byte is the same", with(ipLen, 0, 68, 1, 67), false},
		{"TCP", with(9, 6), false},
		{"do not fragment", with(6, 0x40, 0), true},
		{"a first fragment", with(6, 0x20, 0), false},
		{"a later fragment", with(6, 0, 1), false},
		{"the last bit of a fragment's offset", with(6, 0x10, 0), false},
		{"options", options(67), true},
		{"options, another port", options(68), false},
		{"nothing behind the ports", frame[:EtherLen+ipLen+4], true},
		{"half a port", frame[:EtherLen+ipLen+3], false},
		{"half a header", frame[:EtherLen+8], false},
		{"nothing", nil, false},
	} {
		n, err := filter.Run(c.frame)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if c.pass && n < len(c.frame) || !c.pass && n != 0 {
			t.Errorf("%s: passes %d of %d bytes", c.name, n, len(c.frame))
		}
	}
}
