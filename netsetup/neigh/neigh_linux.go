// Package neigh asks neighbours of a link, and tells them where addresses are, by
// frames of its own: in the name of any MAC, whatever the host's own tables hold.
package neigh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/packet"
)

// Place is where an address is.
type Place struct {
	MAC  net.HardwareAddr
	Addr netip.Addr // zero: of one that has none yet
}

// Link is where to send and to listen; they differ where a bridge hands what
// comes back to a port.
type Link struct{ Send, Listen int }

// On is a link that sends and listens.
func On(index int) Link { return Link{index, index} }

// interval is between two questions.
const interval = time.Second

// Ask asks for the MAC of an address until it is answered or the context ends,
// once a second, in the name of from. It returns nil where nobody answers. A
// question without a sender's address changes nobody's tables. It needs CAP_NET_RAW.
func Ask(ctx context.Context, l Link, from Place, target netip.Addr) (net.HardwareAddr, error) {
	return ask(ctx, l, question(from, target), func(b []byte) net.HardwareAddr {
		addr, mac, ok := packet.Neighbour(b)
		if !ok || addr != target || slices.Equal(mac, from.MAC) {
			return nil
		}
		if toUs := slices.Equal(b[:6], []byte(from.MAC)) || target.Is6() && b[0]&1 != 0; !toUs {
			return nil
		}
		return slices.Clone(mac)
	})
}

// ask sends a frame once a second until one that answers it is heard. It returns
// nil where none is in time.
func ask(ctx context.Context, l Link, frame []byte, answer func([]byte) net.HardwareAddr) (net.HardwareAddr, error) {
	in, err := packet.Listen(l.Listen, packet.All, nil)
	if err != nil {
		return nil, err
	}
	defer in.Close() //nolint:errcheck // ends hear
	out := in
	if l.Send != l.Listen {
		if out, err = packet.Listen(l.Send, packet.None, nil); err != nil {
			return nil, err
		}
		defer out.Close() //nolint:errcheck // nothing follows from it
	}
	answers := make(chan net.HardwareAddr, 1)
	go hear(in, answer, answers)
	for {
		// A link that is down sends nothing; it may come up.
		if err := out.Write(frame); err != nil && !errors.Is(err, unix.ENETDOWN) {
			return nil, fmt.Errorf("ask: %w", err)
		}
		select {
		case mac := <-answers:
			return mac, nil
		case <-ctx.Done():
			return nil, nil
		case <-time.After(interval):
		}
	}
}

// hear passes the first answer on.
func hear(c *packet.Conn, answer func([]byte) net.HardwareAddr, answers chan<- net.HardwareAddr) {
	b := make([]byte, 1514)
	for {
		n, _, err := c.Read(b)
		if errors.Is(err, unix.ENETDOWN) {
			continue
		}
		if err != nil {
			return
		}
		if mac := answer(b[:n]); mac != nil {
			answers <- mac
			return
		}
	}
}

func question(from Place, target netip.Addr) []byte {
	if target.Is4() {
		return packet.ARPRequest(from.MAC, from.Addr, target)
	}
	if !from.Addr.IsValid() {
		from.Addr = netip.IPv6Unspecified()
	}
	return packet.NeighbourSolicitation(from.MAC, from.Addr, target)
}

// Announce tells the link where addresses are. It needs CAP_NET_RAW.
func Announce(link int, list []Place) error {
	var frames [][]byte
	for _, p := range list {
		frame := packet.UnsolicitedAdvertisement
		if p.Addr.Is4() {
			frame = packet.GratuitousARP
		}
		frames = append(frames, frame(p.MAC, p.Addr))
	}
	return write(link, frames)
}

// Solicit asks the link's routers to speak, in the name of a link-local address.
func Solicit(link int, from Place) error {
	return write(link, [][]byte{packet.RouterSolicitation(from.MAC, from.Addr)})
}

func write(link int, frames [][]byte) error {
	c, err := packet.Listen(link, packet.None, nil)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	var errs []error
	for _, f := range frames {
		errs = append(errs, c.Write(f))
	}
	return errors.Join(errs...)
}
