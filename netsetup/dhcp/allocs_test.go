package dhcp

import (
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// More work for the garbage collector is noticed here, whatever the machine's speed.
// The counts are those under the race detector, which makes a few of its own.
func TestAllocations(t *testing.T) {
	s := newServer(t, nil)
	address, err := s.Reserve(hw(1), netip.Addr{}, "web")
	if err != nil {
		t.Fatal(err)
	}
	for kind, most := range map[dhcpv4.MessageType]float64{dhcpv4.MessageTypeDiscover: 67, dhcpv4.MessageTypeRequest: 67} {
		frame := fromClient(message(hw(1), kind, requested(address))).Frame()
		got := testing.AllocsPerRun(100, func() {
			if s.handle(frame) == nil {
				t.Fatal("no answer")
			}
		})
		if got > most {
			t.Errorf("%s: %v allocations, want %v at most", kind, got, most)
		}
	}
}
