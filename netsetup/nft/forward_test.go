package nft

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
)

var (
	devForwarding = Forwarding{Table: "qnet_dev", Comment: "qnet:dev", Bridge: "qn-dev"}
	devTable      = Table{Family: INet, Name: "qnet_dev", Comment: "qnet:dev", Chains: []Chain{
		{Name: throughChain, Type: "filter", Hook: Forward, Policy: Accept, Rules: []Rule{{InLink: Link("qn-dev"), Do: Drop}, {OutLink: Link("qn-dev"), Do: Drop}}},
	}}
)

func devForwards() []Destination {
	guest := netip.MustParseAddrPort("10.77.0.11:80")
	return []Destination{
		{Proto: "tcp", Port: 8080, Guest: guest},
		{Address: netip.MustParseAddr("192.0.2.10"), Proto: "tcp", Port: 8081, Guest: guest},
		{Address: netip.MustParseAddr("192.0.2.10"), Proto: "udp", Port: 53, Guest: netip.MustParseAddrPort("10.77.0.12:5353")},
	}
}

// The commands and the netlink messages make the same, and take the same away.
func TestForwardsByTextAndNetlink(t *testing.T) {
	lab.Run(t, func(t *testing.T) {
		var byText, byNetlink string
		inNetNS(t, func() {
			nftProgram(t, devTable.String(), "-f", "-")
			empty := listing(t)
			nftProgram(t, devForwarding.String(), "-f", "-")
			lab.Sh(t, ElementCommands("add", "qnet_dev", devForwards()))
			byText = listing(t)
			lab.Sh(t, ElementCommands("delete", "qnet_dev", devForwards()))
			lab.Sh(t, devForwarding.UndoString())
			if got := listing(t); got != empty {
				t.Errorf("left by the commands:\n%s", got)
			}
		})
		inNetNS(t, func() {
			c, err := Dial()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if err := c.Add(devTable); err != nil {
				t.Error(err)
			}
			empty := listing(t)
			for range 2 { // again changes nothing
				if err := c.SetForwards(devForwarding, devForwards(), nil); err != nil {
					t.Error(err)
				}
			}
			byNetlink = listing(t)
			changeForwards(t, c)
			if got := listing(t); got != empty {
				t.Errorf("left:\n%s", got)
			}
		})
		if byText != byNetlink || strings.Count(byText, "\n") < 25 {
			t.Errorf("by text:\n%s\nby netlink:\n%s", byText, byNetlink)
		}
	})
}

// changeForwards removes the forwards one after the other.
func changeForwards(t *testing.T, c *Conn) {
	t.Helper()
	all := devForwards()
	got, err := c.Forwards(devForwarding)
	if err != nil || len(got) != len(all) || slices.ContainsFunc(all, func(f Destination) bool { return !slices.Contains(got, f) }) {
		t.Errorf("got %v, %v", got, err)
	}
	if err := c.SetForwards(devForwarding, nil, all[:1]); err != nil {
		t.Error(err)
	}
	if text := listing(t); !strings.Contains(text, "{ 10.77.0.11 . tcp . 80,") {
		t.Errorf("the port of two forwards went with the first:\n%s", text)
	}
	moved := all[1]
	moved.Guest = netip.MustParseAddrPort("10.77.0.99:80")
	if err := c.SetForwards(devForwarding, []Destination{moved}, all[:1]); err != nil { // which is gone
		t.Error(err)
	}
	if got, _ := c.Forwards(devForwarding); !slices.Contains(got, moved) || len(got) != 2 {
		t.Errorf("got %v", got)
	}
	for range 2 {
		if err := c.SetForwards(devForwarding, nil, []Destination{moved, all[2]}); err != nil {
			t.Error(err)
		}
	}
}
