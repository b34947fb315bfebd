package keeper

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/bpf"

	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/neigh"
)

const (
	// answerTime is how long a gateway has to answer.
	answerTime = 5 * time.Second
	// deafTime is how long a gateway is waited for that did not: a switch with STP
	// forwards nothing from a port for 30 s after it was plugged.
	deafTime = time.Minute
)

// checks are the looks for the gateway, the last of which counts.
type checks struct {
	mu   sync.Mutex
	stop context.CancelFunc
}

func (c *checks) cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop != nil {
		c.stop()
	}
}

func (c *checks) start(l *lan, uplink host.Link) {
	if l.k.journal.Plan.Network.Macvtap {
		return // the host's own NIC: who manages it sees its cable
	}
	c.cancel()
	ctx, cancel := context.WithCancel(context.Background())
	c.mu.Lock()
	c.stop = cancel
	c.mu.Unlock()
	go func() {
		defer cancel()
		if err := l.check(ctx, uplink); err != nil {
			l.k.log.Warn("look for the gateway", "error", err)
		}
	}()
}

// check asks for the gateways, says if none answers, and tells the LAN where the
// host is once it is known that this is its LAN.
func (l *lan) check(ctx context.Context, uplink host.Link) error {
	host, ok, err := l.k.host.Link(context.TODO(), l.k.hostLink())
	if err != nil || !ok {
		return err
	}
	gateways, err := l.k.host.Gateways(host.Index)
	if err != nil {
		return err
	}
	here, err := l.k.places(host)
	if err != nil {
		return err
	}
	solicit(host, here)
	if l.k.lease != nil {
		l.k.lease.Soon()
	}
	if len(gateways) == 0 {
		return nil // nothing tells which LAN it is
	}
	spanning, stop := hearsSTP(uplink.Index)
	defer stop()
	names := strings.Join(words(gateways), ", ")
	if !answers(ctx, uplink, gateways, answerTime) {
		if ctx.Err() != nil {
			return nil // another look follows
		}
		why := "is it another network?"
		if spanning.Load() {
			why = "the switch runs STP, and forwards nothing for some 30 s after a cable is plugged"
		}
		l.k.note(fmt.Sprintf("the gateway %s does not answer by %s: %s", names, uplink.Name, why))
		if !answers(ctx, uplink, gateways, deafTime) {
			return nil
		}
		l.k.note(fmt.Sprintf("the gateway %s answers by %s", names, uplink.Name))
		if l.k.lease != nil {
			l.k.lease.Soon() // nobody heard the first question
		}
	}
	return neigh.Announce(host.Index, here)
}

// answers reports whether one of the gateways answers the uplink's MAC.
func answers(ctx context.Context, uplink host.Link, gateways []netip.Addr, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	results := make(chan bool, len(gateways))
	for _, g := range gateways {
		go func() {
			mac, err := neigh.Ask(ctx, neigh.On(uplink.Index), neigh.Place{MAC: uplink.MAC}, g)
			results <- err == nil && mac != nil
		}()
	}
	for range gateways {
		if <-results {
			return true
		}
	}
	return false
}

// places are where the host's addresses on the link are.
func (k *keeper) places(host host.Link) ([]neigh.Place, error) {
	addrs, err := k.host.AddrsOf(host.Index)
	if err != nil {
		return nil, err
	}
	var list []neigh.Place
	for _, a := range addrs {
		list = append(list, neigh.Place{MAC: host.MAC, Addr: a})
	}
	return list, nil
}

// solicit asks for routers: the advertisement of a changed one may be minutes away.
func solicit(host host.Link, here []neigh.Place) {
	i := slices.IndexFunc(here, func(n neigh.Place) bool { return n.Addr.Is6() && n.Addr.IsLinkLocalUnicast() })
	if i >= 0 {
		neigh.Solicit(host.Index, here[i]) //nolint:errcheck // they speak by themselves, later
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

// hearsSTP listens for a switch's STP until stop; they speak each 2 s.
func hearsSTP(link int) (heard *atomic.Bool, stop func()) {
	heard = &atomic.Bool{}
	c, err := packet.Listen(link, packet.All, bpdus)
	if err != nil {
		return heard, func() {}
	}
	go func() {
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
	return heard, func() { c.Close() } //nolint:errcheck // nothing follows from it
}
