package filters

import (
	"fmt"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// note tells the user who drops what, and what would let it pass.
func (n Promise) note(r Ruleset, drops []Drop) string {
	d := drops[0]
	where := fmt.Sprintf("%s (%s, table %s %s, chain %s%s)", d.Program, d.Engine, d.Family, d.Table, d.Chain, why(d))
	who := fmt.Sprintf("network %s: %s drops %s", n.Name, where, packets(drops))
	if d.KillSwitch {
		return who + ": blocked on purpose by " + d.Program + " to keep all traffic in its tunnel; allow local network sharing (or a split tunnel) in its settings"
	}
	var traffic []Traffic
	for _, p := range r.Packets(n) {
		if !slices.ContainsFunc(drops, func(e Drop) bool { return e.Packet == p.Name }) {
			continue
		}
		for _, t := range p.Passes {
			if !slices.Contains(traffic, t) {
				traffic = append(traffic, t)
			}
		}
	}
	var lines []string
	for _, t := range traffic {
		if line := n.command(d, t); !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return who + "; qnet does not edit its rules: to let it pass, run " + strings.Join(lines, " and ")
}

// command is what an administrator would run to let the traffic pass.
func (n Promise) command(d Drop, t Traffic) string {
	if d.Engine == IPTablesNFT || d.Engine == IPTablesLegacy {
		return "`" + AcceptRule{Engine: d.Engine, Family: d.Family, Table: d.Table, Chain: d.Base, Spec: t.spec(n.Name)}.Command("-I") + "`"
	}
	if d.Program == firewalld && n.Joined { // to the default zone, which forwards between its links
		return fmt.Sprintf("`firewall-cmd --add-interface=%s`", n.Bridge)
	}
	if d.Program == firewalld {
		return fmt.Sprintf("`firewall-cmd --zone=trusted --change-interface=%s`", n.Bridge)
	}
	if d.Engine == EBTablesNFT {
		return fmt.Sprintf("`ebtables -t %s -I %s -j ACCEPT` with what it is to match", d.Table, d.Base)
	}
	match := t.nft()
	if d.Family == nft.Bridge || d.Family == nft.NetDev { // where links are ports, and no link is known by its bridge
		match = "accept"
	}
	return fmt.Sprintf("`nft insert rule %s %s %s %s`", d.Family, d.Table, d.Base, match)
}

func why(d Drop) string {
	if d.Policy() {
		return ", policy drop"
	}
	return ": " + d.Rule
}

// packets joins what the packets of drops are, each once, and no answer to a packet
// that is dropped itself.
func packets(drops []Drop) string {
	var names []string
	for _, d := range drops {
		name := strings.TrimSuffix(d.Packet, ", the answer")
		if !slices.Contains(names, name) && !slices.Contains(names, d.Packet) {
			names = append(names, d.Packet)
		}
	}
	if len(names) == 1 {
		return names[0]
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}
