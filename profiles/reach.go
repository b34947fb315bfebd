package profiles

import (
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
	if r.Guard == "off" && !p.IsZero() {
		d.Fail(key+"guard", "got \"off\", but %s tells the guest by its own MAC, which the guard holds it to; leave guard out", p.Keys()[0])
	}
	return p
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
