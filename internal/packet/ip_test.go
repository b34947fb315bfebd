package packet

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
)

func TestIPRoundTrip(t *testing.T) {
	p := IP{
		SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: Broadcast, Src: netip.MustParseAddr("10.1.2.3"), Dst: netip.MustParseAddr("10.1.2.1"),
		Protocol: 1, DontFragment: true, Payload: []byte("payload"),
	}
	frame := p.Frame()
	got, ok := ParseIP(append(frame, 0, 0, 0)) // Ethernet pads short frames
	if !ok || got.Src != p.Src || got.Dst != p.Dst || !got.DontFragment || !bytes.Equal(got.Payload, p.Payload) {
		t.Errorf("got %+v, %v", got, ok)
	}
	if checksum(frame[EtherLen:EtherLen+ipLen], 0) != 0 {
		t.Error("wrong header checksum")
	}
	for _, bad := range [][]byte{nil, frame[:20], append([]byte{}, frame[:EtherLen+10]...)} {
		if _, ok := ParseIP(bad); ok {
			t.Errorf("took %x", bad)
		}
	}
}

// A datagram of Datagram's and the transport checksum agree.
func TestTransportChecksum(t *testing.T) {
	d := Datagram{
		SrcMAC: Broadcast, DstMAC: Broadcast, Src: netip.MustParseAddr("10.1.2.3"), Dst: netip.MustParseAddr("10.1.2.1"),
		SrcPort: 1000, DstPort: 53, Payload: []byte("odd"),
	}
	p, _ := ParseIP(d.Frame())
	want := binary.BigEndian.Uint16(p.Payload[6:])
	p.Payload[6], p.Payload[7] = 0, 0
	if got := p.TransportChecksum(); got != want {
		t.Errorf("got %x, want %x", got, want)
	}
}
