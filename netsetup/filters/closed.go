package filters

import (
	"fmt"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/profiles"
)

// ClosedTo names the program that keeps guests of the network from other ports of the host than
// those that the network needs, with the command that opens port N; "" where guests reach
// them. That is the firewall's decision, so qnet puts no accept there.
func (r Ruleset) ClosedTo(n Promise) (program, open string) {
	if n.Mode != profiles.HostOnly && n.Mode != profiles.NAT {
		return "", ""
	}
	for _, d := range r.without(Mark(n.Name)).Drops(n.toHost(TCP, service)) {
		if d.May == "" && (!n.Zoned || d.Program != firewalld) {
			return d.Program, n.opens(d)
		}
	}
	if n.Zoned { // whose rules for the zone let guests reach what the network needs
		return firewalld, "firewall-cmd --zone=trusted --add-port=N/tcp"
	}
	return "", ""
}

// Opens are the commands by which the owner of a drop of what comes in lets guests reach of the host
// what the network needs and the drop's chain keeps from them, and no more: what qnet puts in
// itself where it can. It is all that the network needs where no chain drops it now. The commands
// bear no mark of qnet's, which would remove its own rules.
func (r Ruleset) Opens(n Promise, d Drop) []string {
	if n.Mode != profiles.HostOnly && n.Mode != profiles.NAT {
		return nil
	}
	if strings.Contains(d.Program, "ufw") { // which lets in pings and answers
		return []string{fmt.Sprintf("ufw allow in on %s to %s port %d", n.Bridge, n.Gateway, dnsPort)}
	}
	var all, dropped []string
	for _, p := range n.withHost() {
		if !p.DstLocal {
			continue
		}
		for _, t := range p.Passes {
			command := strings.Replace(n.command(d, t), fmt.Sprintf(` -m comment --comment "%s"`, Mark(n.Name)), "", 1)
			all = append(all, command)
			if slices.ContainsFunc(r.Drops(p), d.sameBase) {
				dropped = append(dropped, command)
			}
		}
	}
	if dropped == nil {
		return all
	}
	return dropped
}

// opens is the command that lets guests of the network reach TCP port N of the host past a drop.
func (n Promise) opens(d Drop) string {
	if strings.Contains(d.Program, "ufw") {
		return fmt.Sprintf("ufw allow in on %s to any port N", n.Bridge)
	}
	if d.Engine == IPTablesNFT || d.Engine == IPTablesLegacy {
		rule := AcceptRule{Engine: d.Engine, Family: d.Family, Table: d.Table, Chain: d.Base, Spec: "-i " + n.Bridge + " -p tcp --dport N -j ACCEPT"}
		return rule.Command("-I")
	}
	return fmt.Sprintf("nft insert rule %s %s %s iifname %q tcp dport N accept", d.Family, d.Table, d.Base, n.Bridge)
}
