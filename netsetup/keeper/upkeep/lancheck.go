package upkeep

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/bpf"

	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/neigh"
)

const (
	// gatewayTimeout is how long a gateway has to answer.
	gatewayTimeout = 5 * time.Second
	// deafTimeout is how long the check then goes on to ask a gateway that did not: a
	// switch with STP forwards nothing from a port for 30 s after it was plugged.
	deafTimeout = time.Minute
)

// startCheck starts to look for the gateway, in place of the check that runs.
func (l *lan) startCheck(ctx context.Context, uplink host.Link) {
	if l.plan.Network.Macvtap {
		return // the host's own NIC: the program that configures it sees its cable
	}
	l.stopCheck()
	ctx, l.stopCheck = context.WithCancel(ctx)
	l.workers.Go(func() {
		if err := l.check(ctx, uplink); err != nil {
			l.Log.Warn("look for the gateway", "error", err)
		}
	})
}

// check asks for the gateways, says if none answers, and tells the LAN where the
// host is once it is known that this is its LAN.
func (l *lan) check(ctx context.Context, uplink host.Link) error {
	own, ok, err := l.Host.Link(ctx, l.hostLink())
	if err != nil || !ok {
		return err
	}
	gateways, err := host.ReadGateways(own.Index)
	if err != nil {
		return err
	}
	here, err := l.places(own)
	if err != nil {
		return err
	}
	solicit(own, here)
	l.mender.lease.soon()
	if len(gateways) == 0 {
		return nil // nothing tells which LAN it is
	}
	if !l.awaitGateway(ctx, uplink, gateways) {
		return nil
	}
	return neigh.Announce(own.Index, here)
}

// awaitGateway reports whether a gateway answers, and says if it takes long.
func (l *lan) awaitGateway(ctx context.Context, uplink host.Link, gateways []netip.Addr) bool {
	spanning, stop := hearsSTP(uplink.Index)
	defer stop()
	if answers(ctx, uplink, gateways, gatewayTimeout) {
		return true
	}
	if ctx.Err() != nil {
		return false // another check follows
	}
	names := strings.Join(words(gateways), ", ")
	why := "is it another network?"
	if spanning.Load() {
		why = "the switch runs STP, and forwards nothing for some 30 s after a cable is plugged"
	}
	l.note("the gateway %s does not answer by %s: %s", names, uplink.Name, why)
	if !answers(ctx, uplink, gateways, deafTimeout) {
		return false
	}
	l.note("the gateway %s answers by %s", names, uplink.Name)
	l.mender.lease.soon() // the first question was lost
	return true
}

// answers reports whether one of the gateways answers the uplink's MAC.
func answers(ctx context.Context, uplink host.Link, gateways []netip.Addr, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	results := make(chan bool)
	for _, g := range gateways {
		go func() {
			mac, err := neigh.Resolve(ctx, neigh.On(uplink.Index), neigh.Place{MAC: uplink.MAC}, g)
			results <- err == nil && mac != nil
		}()
	}
	found := false
	for range gateways {
		if <-results {
			found = true
			cancel() // the others need not answer
		}
	}
	return found
}

// places are where the host's addresses on the link are.
func (l *lan) places(own host.Link) ([]neigh.Place, error) {
	addrs, err := host.ReadAddrs(own.Index)
	if err != nil {
		return nil, err
	}
	var list []neigh.Place
	for _, a := range addrs {
		list = append(list, neigh.Place{MAC: own.MAC, Addr: a.Addr()})
	}
	return list, nil
}

// solicit asks for routers: the advertisement of a changed one may be minutes away.
func solicit(own host.Link, here []neigh.Place) {
	i := slices.IndexFunc(here, func(n neigh.Place) bool { return n.Addr.Is6() && n.Addr.IsLinkLocalUnicast() })
	if i >= 0 {
		neigh.Solicit(own.Index, here[i]) //nolint:errcheck // routers advertise by themselves, later
	}
}

func words(list []netip.Addr) []string {
	var words []string
	for _, a := range list {
		words = append(words, a.String())
	}
	return words
}

// bpdus passes what goes to 01:80:c2:00:00:00, where bridges speak STP (IEEE 802.1D).
var bpdus = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 0, Size: 4},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0x0180c200, SkipTrue: 3},
	bpf.LoadAbsolute{Off: 4, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 1},
	bpf.RetConstant{Val: 64},
	bpf.RetConstant{Val: 0},
}

// hearsSTP listens for a switch's STP until stop, which joins the listener. Switches
// send each 2 s.
func hearsSTP(link int) (heard *atomic.Bool, stop func()) {
	heard = &atomic.Bool{}
	c, err := packet.Listen(link, packet.All, bpdus)
	if err != nil {
		return heard, func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 64)
		for {
			_, out, err := c.Read(b)
			if err != nil {
				return
			}
			if !out {
				heard.Store(true)
			}
		}
	}()
	return heard, func() {
		c.Close() //nolint:errcheck // nothing follows from it
		<-done
	}
}
