package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/qnet-vm/qnet/internal/resolvconf"
	"github.com/qnet-vm/qnet/netsetup/dns"
)

// knownName is what the check asks the host's name servers for.
const knownName = "example.com"

// checkResolvers asks the host's name servers as a network's server asks them for guests.
func checkResolvers(ctx context.Context, h *Host) []Finding {
	tried, err := dns.Try(ctx, h.resolvConf, knownName)
	if err != nil {
		return one(Unseen, "", "%s", err)
	}
	var others []string
	for _, t := range tried {
		if t.Answers() {
			return one(Pass, "", "%s answers%s", t.Server, before(others))
		}
		others = append(others, resolverText(t))
	}
	if h.namesNone() {
		return one(Warn, "add a nameserver line to /etc/resolv.conf", "/etc/resolv.conf names none, and %s, which stands for none: guests resolve the names of VMs only", strings.Join(others, ", "))
	}
	return one(Warn, "look at /etc/resolv.conf", "none of the host's resolvers has an answer for %s: %s", knownName, strings.Join(others, ", "))
}

// namesNone reports whether resolv.conf(5) names no server.
func (h *Host) namesNone() bool { return resolvconf.Nameservers(h.resolvConf) == nil }

// before names the servers that a guest's question goes to first, to no avail.
func before(others []string) string {
	if others == nil {
		return ""
	}
	return fmt.Sprintf(", after these, which are asked before it: %s", strings.Join(others, ", "))
}

// resolverText says why a server has no answer.
func resolverText(t dns.Tried) string {
	if t.Err != nil {
		return fmt.Sprintf("%s does not answer (%s)", t.Server, t.Cause())
	}
	return fmt.Sprintf("%s refuses (%s)", t.Server, t.Refusal)
}
