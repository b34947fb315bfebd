// Package lease is a DHCP client that measures. It takes leases for many MACs by
// one link, several at a time.
package lease

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/qnet-vm/qnet/internal/packet"
)

// answerTimeout is the longest time without an answer.
const answerTimeout = 5 * time.Second

// Take takes a lease for each MAC, at most window of them at a time, and returns
// how long all took. It needs CAP_NET_RAW.
func Take(link int, macs []net.HardwareAddr, window int) (time.Duration, error) {
	conn, err := packet.Listen(link, packet.IPv4, nil)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	answers := make(chan *dhcpv4.DHCPv4, 2*window)
	go hear(conn, answers)
	begin := time.Now()
	next := 0
	discover := func() error {
		if next == len(macs) {
			return nil
		}
		m, err := dhcpv4.NewDiscovery(macs[next], dhcpv4.WithBroadcast(true))
		next++
		if err != nil {
			return err
		}
		return send(conn, m)
	}
	for range window {
		if err := discover(); err != nil {
			return 0, err
		}
	}
	for bound := 0; bound < len(macs); {
		select {
		case m := <-answers:
			switch m.MessageType() {
			case dhcpv4.MessageTypeOffer:
				err = request(conn, m)
			case dhcpv4.MessageTypeAck:
				bound++
				err = discover()
			default:
				err = fmt.Errorf("answer to %s: %s", m.ClientHWAddr, m.MessageType())
			}
			if err != nil {
				return 0, err
			}
		case <-time.After(answerTimeout):
			return 0, errors.New("take leases: no answer")
		}
	}
	return time.Since(begin), nil
}

func hear(conn *packet.Conn, answers chan<- *dhcpv4.DHCPv4) {
	b := make([]byte, 2048)
	for {
		n, out, err := conn.Read(b)
		if err != nil {
			return
		}
		d, ok := packet.ParseDatagram(b[:n])
		if out || !ok || d.DstPort != dhcpv4.ClientPort {
			continue
		}
		if m, err := dhcpv4.FromBytes(d.Payload); err == nil {
			answers <- m
		}
	}
}

func request(conn *packet.Conn, offer *dhcpv4.DHCPv4) error {
	m, err := dhcpv4.NewRequestFromOffer(offer, dhcpv4.WithBroadcast(true))
	if err != nil {
		return err
	}
	return send(conn, m)
}

func send(conn *packet.Conn, m *dhcpv4.DHCPv4) error {
	return conn.Write(packet.Datagram{
		SrcMAC: m.ClientHWAddr, DstMAC: packet.Broadcast,
		Src: netip.IPv4Unspecified(), Dst: netip.AddrFrom4([4]byte{255, 255, 255, 255}),
		SrcPort: dhcpv4.ClientPort, DstPort: dhcpv4.ServerPort, Payload: m.ToBytes(),
	}.Frame())
}
