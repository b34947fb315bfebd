package keeper_test

import (
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lab/programs"
	"github.com/qnet-vm/qnet/profiles"
)

// What a VPN blocks on purpose stays blocked: qnet names the VPN, and inserts no accept
// (F10).
func TestKillSwitchIsRespected(t *testing.T) {
	for i, ks := range programs.KillSwitches {
		t.Run(ks.Program, func(t *testing.T) {
			if i != 1 && i != 3 { // one of nftables and one of iptables
				coexist(t)
			}
			inLab(t, func(t *testing.T, o Options) {
				lab.Require(t, programs.KillSwitchNeeds...)
				empty := lab.Sh(t, others)
				lab.Sh(t, ks.Script)
				rules := lab.Sh(t, others)
				told := &notes{}
				o.Note = told.add
				r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
				lab.Guest(t, "vm1", "qn-dev", "10.77.0.9/24", "10.77.0.1")
				if got := lab.Pings("vm1", "203.0.113.1"); got != ks.Passes {
					t.Errorf("the guest reaches the outside: %v", got)
				}
				if told.count("blocked on purpose by "+ks.Program) == 0 || told.count("local network sharing") == 0 {
					t.Errorf("notes %q", told.texts)
				}
				sameState(t, "while VMs run", rules, lab.Sh(t, others))
				// The kill-switch may come later, too.
				lab.Sh(t, "ip link del vvm1; ip netns del vm1")
				mustLeave(t, r)
				sameState(t, "afterwards", rules, lab.Sh(t, others))
				lab.Sh(t, "nft flush ruleset")
				if empty != "" {
					t.Fatalf("rules of whom?\n%s", empty)
				}
			})
		})
	}
}

// others lists the rules of all programs but qnet.
const others = `for t in $(nft list tables | awk '$3 !~ /^qnet_/ { print $2 "/" $3 }'); do nft -s list table $(echo $t | tr / ' ') 2> /dev/null; done`

// The keeper tells once of a kill-switch that is turned on while VMs run.
func TestKillSwitchComesLater(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		lab.Require(t, programs.KillSwitchNeeds...)
		told := &notes{}
		o.Note = told.add
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
		lab.Sh(t, programs.KillSwitches[0].Script)
		rules := lab.Sh(t, others)
		lab.Eventually(t, reloadTime*patience, "the note", func() bool { return told.count("blocked on purpose by Mullvad VPN") > 0 })
		lab.Sh(t, strings.Replace(programs.KillSwitches[0].Script, "table inet mullvad {", "delete table inet mullvad\ntable inet mullvad {", 1))
		sameState(t, "while VMs run", rules, lab.Sh(t, others))
		time.Sleep(reloadTime) // for what should not be told
		if n := told.count("blocked on purpose"); n != 1 {
			t.Errorf("told %d times: %q", n, told.texts)
		}
		mustLeave(t, r)
		lab.Sh(t, "nft delete table inet mullvad")
	})
}
