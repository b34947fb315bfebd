package probe

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/nft"
)

// word says what drops a packet and what accepts it. which is "the answer: " for a reply.
func (r *run) word(d filters.Drop, which string) string {
	what := "policy DROP"
	if !d.Policy() {
		what = fmt.Sprintf("rule %q", d.Rule)
	}
	engine := ""
	if d.Engine != filters.NFTables {
		engine = string(d.Engine) + " "
	}
	text := fmt.Sprintf("%sdrop at %s: %stable %s %s chain %s %s (%s)", which, d.Hook, engine, d.Family, d.Table, d.Chain, what, d.Program)
	if remedy := r.remedy(d); remedy != "" {
		text += ": " + remedy
	}
	return text
}

// remedy is the command that accepts the packets where the owner of the drop expects it.
func (r *run) remedy(d filters.Drop) string {
	bridge := r.info.Bridge
	switch {
	case strings.HasPrefix(d.Table, "qnet_"):
		return ""
	case d.KillSwitch:
		return "it does so on purpose, to keep all traffic inside the VPN: allow local networks, or split tunnelling, in its settings"
	case d.Hook == nft.Input && d.Family != nft.Bridge && d.Family != nft.NetDev:
		return r.inputRemedy(d)
	case d.Program == "firewalld":
		return "accept it with: firewall-cmd --zone=trusted --add-interface=" + bridge
	case d.Program == "ufw" && d.Hook == nft.Forward:
		return fmt.Sprintf("accept it with: ufw route allow in on %s; ufw route allow out on %s", bridge, bridge)
	case d.Engine == filters.IPTablesNFT || d.Engine == filters.IPTablesLegacy:
		return "accept it with: " + r.iptablesRemedy(d, bridge)
	}
	return "accept it with: " + nftRemedy(d, bridge)
}

// inputRemedy accepts what guests need of the host: DNS, ping and answers. What else they may reach
// of it is for its firewall's owner to say.
func (r *run) inputRemedy(d filters.Drop) string {
	n := filters.Promise{
		Name: r.network.Name, Mode: r.info.Mode, Bridge: r.info.Bridge, Prefix: r.info.Prefix, Gateway: r.info.Gateway,
	}
	commands := r.rules().Opens(n, d)
	if d.Program == "firewalld" && len(commands) > 0 {
		commands = zoneRemedy(d, n)
	}
	if len(commands) == 0 {
		return ""
	}
	return "accept what guests need of the host, and no more, with: " + strings.Join(commands, "; ")
}

// zoneRemedy are the rules in the zone of firewalld that has the bridge; or the zone and the rules
// that qnet puts it into.
func zoneRemedy(d filters.Drop, n filters.Promise) []string {
	var commands []string
	zone, ok := strings.CutPrefix(d.Chain, "filter_IN_")
	rules := firewalld.GatewayRules(n.Prefix, netip.Prefix{})
	if !ok {
		zone, rules = "trusted", firewalld.ZoneRules(n.Prefix, netip.Prefix{})
		commands = append(commands, "firewall-cmd --zone=trusted --add-interface="+n.Bridge)
	}
	for _, rule := range rules {
		commands = append(commands, fmt.Sprintf("firewall-cmd --zone=%s --add-rich-rule='%s'", zone, rule))
	}
	return commands
}

// iptablesRemedy is the rule in the chain that Docker leaves to its administrator, or in
// the hook's own.
func (r *run) iptablesRemedy(d filters.Drop, bridge string) string {
	program := string(d.Engine)
	chain := d.Base
	if d.Hook == nft.Forward {
		if _, ok := r.rules().Chain(d.Engine, d.Family, "filter", "DOCKER-USER"); ok {
			chain = "DOCKER-USER"
		}
		return fmt.Sprintf("%s -I %s -i %s -j ACCEPT; %s -I %s -o %s -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
			program, chain, bridge, program, chain, bridge)
	}
	return fmt.Sprintf("%s -t %s -I %s %s %s -j ACCEPT", program, d.Table, chain, direction(d.Hook, "-i", "-o"), bridge)
}

// nftRemedy is the rule that the owner of a chain would add to its file.
func nftRemedy(d filters.Drop, bridge string) string {
	insert := fmt.Sprintf("nft insert rule %s %s %s ", d.Family, d.Table, d.Base)
	if d.Hook == nft.Forward && d.Family != nft.Bridge {
		return fmt.Sprintf("%siifname %s accept; %soifname %s ct state established,related accept", insert, bridge, insert, bridge)
	}
	if d.Family == nft.Bridge {
		return insert + "accept"
	}
	return insert + fmt.Sprintf("%s %s accept", direction(d.Hook, "iifname", "oifname"), bridge)
}

// direction is the word with which a rule at a hook names the link of the guests.
func direction(h nft.Hook, in, out string) string {
	if h == nft.Output || h == nft.Postrouting {
		return out
	}
	return in
}
