package filters

import (
	"slices"
	"strings"
)

// sign recognizes a program by how the names begin that it gives.
type sign struct {
	prefix, program string
	killSwitch      bool
}

const firewalld = "firewalld"

// tableSigns are the names of tables that belong to one program.
var tableSigns = []sign{
	{"mullvad", "Mullvad VPN", true},
	{"cloudflare-warp", "Cloudflare WARP", true},
	{"ivpn", "IVPN", true},
	{"nordvpn", "NordVPN", true},
	{"protonvpn", "Proton VPN", true},
	{"killswitch", "a VPN's kill-switch", true},
	{"wg-quick-", "wg-quick", true},
	{firewalld, firewalld, false},
	{"docker-", "Docker", false},
	{"libvirt_", "libvirt", false},
	{"netavark", "Podman", false},
	{"incus", "Incus", false},
	{"lxd", "LXD", false},
	{"lxc", "lxc-net", false},
	{"kube-", "Kubernetes", false},
	{"opensnitch", "OpenSnitch", false},
	{"f2b-", "fail2ban", false},
	{"crowdsec", "CrowdSec", false},
	{"tailscale", "Tailscale", false},
	{"ts-", "Tailscale", false},
}

// chainSigns are the names of chains in tables that programs share.
var chainSigns = []sign{
	{"IVPN", "IVPN", true},
	{"nordvpn", "NordVPN", true},
	{"piavpn.", "Private Internet Access", true},
	{"evpn.", "ExpressVPN", true},
	{"xvpn", "ExpressVPN", true},
	{"windscribe", "Windscribe", true},
	{"mullvad", "Mullvad VPN", true},
	{"DOCKER", "Docker", false},
	{"ufw", "ufw", false},
	{"KUBE-", "Kubernetes", false},
	{"cali-", "Calico", false},
	{"CILIUM_", "Cilium", false},
	{"FLANNEL-", "flannel", false},
	{"LIBVIRT_", "libvirt", false},
	{"NETAVARK", "Podman", false},
	{"CNI-", "CNI", false},
	{"ts-", "Tailscale", false},
	{"f2b-", "fail2ban", false},
	{"zone_", "OpenWrt", false},
}

// commentSigns are the comments of rules that a program puts into the chains of others.
var commentSigns = []sign{
	{"nordvpn", "NordVPN", true},
	{"IVPN", "IVPN", true},
	{"mullvad", "Mullvad VPN", true},
	{"windscribe", "Windscribe", true},
	{"cali:", "Calico", false},
	{"kubernetes", "Kubernetes", false},
}

func find(signs []sign, name string) (sign, bool) {
	for _, s := range signs {
		if strings.HasPrefix(strings.ToLower(name), strings.ToLower(s.prefix)) {
			return s, true
		}
	}
	return sign{}, false
}

// program guesses from names to whom a rule belongs or, where r is nil, the policy of a
// chain.
func program(t *Table, c *Chain, r *Rule) (name string, killSwitch bool) {
	if r != nil {
		if s, ok := find(commentSigns, r.Comment); ok {
			return s.program, s.killSwitch
		}
	}
	if s, ok := find(tableSigns, t.Name); ok {
		return s.program, s.killSwitch
	}
	if s, ok := find(chainSigns, c.Name); ok {
		return s.program, s.killSwitch
	}
	switch {
	case r == nil && t.IPTables():
		return t.policySetter(c)
	case t.IPTables():
		return "a rule of " + string(t.Engine), false
	case t.Engine == EBTablesNFT:
		return "ebtables", false
	}
	return "a ruleset of nft, such as /etc/nftables.conf", false
}

// IPTables reports whether an iptables program owns the table.
func (t *Table) IPTables() bool { return t.Engine == IPTablesNFT || t.Engine == IPTablesLegacy }

// policySetter guesses which program set the policy of an iptables chain that programs
// share: Docker and ufw do, and the chain then jumps to theirs.
func (t *Table) policySetter(c *Chain) (name string, killSwitch bool) {
	var names []string
	for _, r := range c.Rules {
		s, ok := find(chainSigns, r.Chain)
		if ok && s.killSwitch {
			return s.program, true
		}
		sets := s.program == "Docker" || s.program == "ufw"
		if ok && sets && !slices.Contains(names, s.program) {
			names = append(names, s.program)
		}
	}
	if len(names) == 0 {
		return "a policy of " + string(t.Engine), false
	}
	return strings.Join(names, " or "), false
}
