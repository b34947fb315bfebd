package filters

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// HostPort is a port of the host that other machines are to reach.
type HostPort struct {
	Proto   string     // "tcp" or "udp"
	Address netip.Addr // of the host; zero, 0.0.0.0 and :: are any, the first of IPv4
	Port    uint16
	// DNAT says that qnet gives the packets another destination: no rule for the host's own
	// programs sees them.
	DNAT bool
}

// Barred says which other program keeps other machines, which come in by the link, from the port,
// and what to do about that. why is "" where none surely does.
func (r Ruleset) Barred(link string, h HostPort) (why string, remedy Remedy) {
	p := Packet{
		Path: pathToHost, In: link, Src: outside, Dst: h.Address, DstLocal: true,
		Proto: pick[byte](h.Proto == "udp", UDP, TCP), Sport: ephemeral, Dport: h.Port,
		Name: fmt.Sprintf("what other machines send to %s port %d", h.Proto, h.Port),
	}
	if h.Address.Is6() {
		p.Src = sixOne
	}
	if h.Address.IsUnspecified() {
		p.Dst = netip.Addr{}
	}
	seen := p
	if d := r.follow(&seen).redirects; d != nil {
		return fmt.Sprintf("%s (%s) takes %s", d.Program, d.where(), p.Name),
			Remedy{Advice: "publish another port there, or forward another one"}
	}
	if h.DNAT {
		return "", Remedy{}
	}
	for _, d := range r.Drops(p) {
		if d.May == "" && d.Hook == nft.Input {
			return evidence([]Drop{d}), Remedy{Commands: []string{h.opens(d)}}
		}
	}
	return "", Remedy{}
}

// opens is the command that opens the port to other machines past a drop.
func (h HostPort) opens(d Drop) string {
	switch {
	case strings.Contains(d.Program, "ufw"):
		return fmt.Sprintf("ufw allow %d/%s", h.Port, h.Proto)
	case d.Program == firewalld:
		return fmt.Sprintf("firewall-cmd --add-port=%d/%s", h.Port, h.Proto)
	case d.Engine == IPTablesNFT || d.Engine == IPTablesLegacy:
		rule := AcceptRule{Engine: d.Engine, Family: d.Family, Table: d.Table, Chain: d.Base, Spec: fmt.Sprintf("-p %s --dport %d -j ACCEPT", h.Proto, h.Port)}
		return rule.Command("-I")
	}
	return fmt.Sprintf("nft insert rule %s %s %s %s dport %d accept", d.Family, d.Table, d.Base, h.Proto, h.Port)
}
