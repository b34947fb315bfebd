package upkeep

import (
	"context"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
)

func TestKindOf(t *testing.T) {
	for name, c := range map[string]struct {
		kind uint16
		data []byte
		want kind
	}{
		"link":         {unix.RTM_DELLINK, nil, links},
		"address":      {unix.RTM_NEWADDR, []byte{unix.AF_INET}, addresses},
		"IPv6 address": {unix.RTM_DELADDR, []byte{unix.AF_INET6}, addresses6},
		"sysctl":       {unix.RTM_NEWNETCONF, nil, netconfs},
		"rule":         {unix.RTM_NEWRULE, nil, rules},
		"IPv4 route":   {unix.RTM_NEWROUTE, []byte{unix.AF_INET}, routes4},
		"IPv6 route":   {unix.RTM_DELROUTE, []byte{unix.AF_INET6}, routes6},
		"nft rule":     {nftables<<8 | unix.NFT_MSG_NEWRULE, nil, tables},
		"neighbor":     {unix.RTM_NEWNEIGH, nil, 0},
		"empty route":  {unix.RTM_NEWROUTE, nil, routes4},
		"netlink done": {uint16(netlink.Done), nil, 0},
	} {
		m := netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(c.kind)}, Data: c.data}
		if got := kindOf(m); got != c.want {
			t.Errorf("%s: kind %b, want %b", name, got, c.want)
		}
	}
}

// One subscription wakes those who asked for the kind, and none else, and ends with
// its context.
func TestEventsAreFannedOut(t *testing.T) {
	lab.Require(t, lab.Program("ip"), lab.Program("nft"))
	lab.Run(t, func(t *testing.T) {
		e, err := listen()
		if err != nil {
			t.Fatal(err)
		}
		wakes := map[string]signal{"links": e.subscribe(links), "rules": e.subscribe(rules), "tables": e.subscribe(tables)}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- e.Run(ctx) }()
		for _, c := range []struct{ wakes, script string }{
			{"links", "ip link add br9 type bridge"},
			{"rules", "ip rule add priority 5000 lookup 100"},
			{"tables", "nft add table inet some"},
		} {
			lab.Sh(t, c.script)
			select {
			case <-wakes[c.wakes]:
			case <-time.After(2 * time.Second):
				t.Errorf("%s: %s not woken", c.script, c.wakes)
			}
			for name, s := range wakes {
				select {
				case <-s:
					if name != c.wakes && name != "links" { // a link has more than one event
						t.Errorf("%s: %s woken", c.script, name)
					}
				default:
				}
			}
		}
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(2 * time.Second):
			t.Error("Run does not end with its context")
		}
	})
}

// A fight is over after its time, and counts anew.
func TestFight(t *testing.T) {
	f := &fight{}
	for i := 1; i <= 3; i++ {
		if got := f.next(); got != i {
			t.Errorf("round %d counts as %d", i, got)
		}
	}
	f.began = f.began.Add(-2 * fightTimeout)
	if got := f.next(); got != 1 {
		t.Errorf("the first round of the next fight counts as %d", got)
	}
}
