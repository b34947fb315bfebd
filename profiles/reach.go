package profiles

import (
	"fmt"

	"github.com/qnet-vm/qnet/profiles/reach"
	"github.com/qnet-vm/qnet/profiles/strict"
)

// reach is what a NIC's guest may reach. key is the NIC's, with a dot.
func (d *decoder) reach(key string, r rawNIC, mode Mode) reach.Policy {
	p := reach.Policy{Isolated: r.Isolated, NoHost: r.Host == "none", NoLAN: r.LAN != nil && !*r.LAN}
	if p.Isolated {
		switch mode {
		case Bridge:
			d.Fail(key+"isolated", "got true, but in mode bridge the guest is on the host's LAN, whose switches pass on what other machines send it; allowed in: private, host-only, nat")
		case User, None:
			d.Fail(key+"isolated", "got true, but in mode %s a guest has no neighbours; allowed in: private, host-only, nat", mode)
		}
	}
	if r.Host != "" && !mode.HasSubnet() {
		d.Fail(key+"host", "got %s, but %s; allowed in: host-only, nat", strict.Quote(r.Host), hostOf(mode))
	}
	if r.LAN != nil && mode != NAT {
		d.Fail(key+"lan", "got %t, but %s; allowed in: nat", *r.LAN, lanOf(mode))
	}
	d.list(key+"egress", r.Egress, mode, &p)
	if r.Guard == "off" && !p.IsZero() {
		d.Fail(key+"guard", "got \"off\", but %s tells the guest by its own MAC, which the guard holds it to; leave guard out", p.Keys()[0])
	}
	return p
}

// list adds the list of what the guest reaches outside to the policy. nil is none.
func (d *decoder) list(key string, texts []string, mode Mode, p *reach.Policy) {
	if texts == nil {
		return
	}
	p.Listed = true
	if mode != NAT {
		d.Fail(key, "got %d entries, but %s; allowed in: nat", len(texts), lanOf(mode))
		return
	}
	for i, text := range texts {
		e, err := reach.Parse(text)
		if err != nil {
			d.Fail(fmt.Sprintf("%s[%d]", key, i), "got %s: %v", strict.Quote(text), err)
			continue
		}
		p.Entries = append(p.Entries, e)
	}
	if len(texts) > reach.Most || p.Text() > reach.MostText {
		d.Fail(key, "got %d entries with %d bytes, allowed: at most %d with %d", len(texts), p.Text(), reach.Most, reach.MostText)
	}
}

// hostOf says why a mode has no host that a guest could be kept from.
func hostOf(mode Mode) string {
	switch mode {
	case Bridge:
		return "in mode bridge the guest reaches the host as every machine of the LAN does: the host's own firewall decides"
	case User:
		return "in mode user QEMU's own stack has no rules"
	}
	return "in mode " + string(mode) + " no guest reaches the host"
}

// lanOf says why a mode has no LAN that a guest could be kept from.
func lanOf(mode Mode) string {
	switch mode {
	case Bridge:
		return "in mode bridge the guest is on the LAN"
	case User:
		return "in mode user QEMU's own stack has no rules"
	}
	return "in mode " + string(mode) + " no guest reaches a LAN"
}
