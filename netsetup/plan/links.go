package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/host"
)

// named returns the network with the name of its uplink in place of an alternative name, so
// that everything else knows one name for a link.
func (n Network) named(f host.Facts) (Network, error) {
	if n.Uplink == "" {
		return n, nil
	}
	l, ok := f.Link(n.Uplink)
	if !ok {
		return n, noSuchUplink(n, f)
	}
	if l.Name != n.Uplink {
		n.Asked, n.Uplink = n.Uplink, l.Name
	}
	return n, nil
}

// called names an uplink for the user, by the profile's name for it as well.
func (n Network) called(up host.Link) string {
	if n.Asked != "" && up.Called(n.Asked) {
		return fmt.Sprintf("%q (an alternative name of %s)", n.Asked, up.Name)
	}
	return fmt.Sprintf("%q", up.Name)
}

// maxNamed bounds how many links a refusal lists.
const maxNamed = 8

// noSuchUplink refuses a name that no link has, and says which links there are.
func noSuchUplink(n Network, f host.Facts) error {
	var there []string
	for _, l := range f.Links {
		if !l.Loopback && !l.Ours() {
			there = append(there, l.AllNames())
		}
	}
	switch {
	case len(there) == 0:
		return n.refuse("uplink %q: there is no such link, nor any other: leave uplink out", n.Uplink)
	case len(there) > maxNamed:
		there = append(there[:maxNamed], fmt.Sprintf("%d more", len(there)-maxNamed))
	}
	return n.refuse("uplink %q: there is no such link: name one of %s; or leave uplink out", n.Uplink, strings.Join(there, ", "))
}

// pinnedLinks returns the names of the links by which guests leave whose network names the
// uplink: that link, and while it is a port of a bridge of qnet's, that bridge.
func pinnedLinks(f host.Facts, uplink string) []string {
	names := []string{uplink}
	l, _ := f.Link(uplink)
	if bridge, ok := f.LinkByIndex(l.Master); ok && l.Master != 0 && bridge.Ours() {
		names = append(names, bridge.Name)
	}
	return names
}

// otherNetwork is a network of qnet's that has a link.
type otherNetwork struct {
	name   string
	bridge string   // its bridge
	nic    string   // the host's NIC that is a port of the bridge, "" if none is
	vms    []string // with a port in the bridge
}

// networkOf finds the network of qnet's whose bridge the link is, or a port of whose bridge.
func networkOf(l host.Link, f host.Facts) (otherNetwork, bool) {
	bridge := l
	if l.Master != 0 && !l.Ours() {
		bridge, _ = f.LinkByIndex(l.Master)
	}
	if bridge.Kind != "bridge" || !bridge.Ours() {
		return otherNetwork{}, false
	}
	o := otherNetwork{name: strings.TrimPrefix(bridge.Alias, host.NetworkMark("")), bridge: bridge.Name}
	for _, port := range f.Links {
		if port.Master != bridge.Index {
			continue
		}
		if _, vm, _, isPort := host.ParsePortMark(port.Alias); isPort {
			o.vms = append(o.vms, vm)
		} else if !port.Ours() {
			o.nic = port.Name
		}
	}
	return o, true
}

// withoutOthers refuses to join the bridge of another network of qnet's, or its NIC: the
// bridge goes with that network's last VM, also under VMs of other networks. Where the network itself
// runs, its own bridge is the link to join.
func withoutOthers(n Network, up host.Link, f host.Facts, runs bool) (host.Link, error) {
	o, ok := networkOf(up, f)
	switch {
	case !ok:
		return up, nil
	case o.name != n.Name:
		return up, n.refuse("%s", o.notForBridge(up, n))
	case !runs:
		return up, n.refuse("%s bears the mark of network %q, but VMs of another run directory have it, or left it: end them (qnet --run-dir DIR ps; qnet --run-dir DIR gc), or run this VM there",
			o.bridge, o.name)
	}
	own, _ := f.Link(o.bridge)
	return own, nil
}

// notForBridge says why the link cannot carry network n in mode bridge, and the way out.
func (o otherNetwork) notForBridge(up host.Link, n Network) string {
	has := fmt.Sprintf("uplink %s is the bridge of qnet's network %q (%s)", n.called(up), o.name, inWords(o.vms))
	if up.Name != o.bridge {
		has = fmt.Sprintf("uplink %s is a port of %s, the bridge of qnet's network %q (%s)", n.called(up), o.bridge, o.name, inWords(o.vms))
	}
	if o.nic == "" {
		return has + `, which leads to no LAN: name the host's NIC`
	}
	return fmt.Sprintf(`%s, which ends with that network's last VM: put the NICs of both VMs on one network (network = %q), stop the VMs of one, name another NIC, or use mode = "nat"`,
		has, o.name)
}

// notForMacvtap says why the link cannot carry macvtap links, and the way out.
func (o otherNetwork) notForMacvtap(up host.Link) string {
	is := "is a port of"
	if up.Name == o.bridge {
		is = "is the bridge of"
	}
	if o.nic == "" {
		return fmt.Sprintf("%s qnet's network %q (%s), which leads to no LAN: name the host's NIC", is, o.name, inWords(o.vms))
	}
	return fmt.Sprintf("%s network %q (%s), which is in mode bridge without macvtap, and a NIC cannot be both (EBUSY): "+
		"put the NICs of both VMs on one network (network = %q, without macvtap), or stop the VMs of one", is, o.name, inWords(o.vms), o.name)
}

// notForNAT says why guests cannot leave by the bridge alone, and the way out.
func (o otherNetwork) notForNAT() string {
	return fmt.Sprintf("is the bridge of qnet's network %q (%s), and ends with that network's last VM: name its NIC, uplink = %q, or leave uplink out",
		o.name, inWords(o.vms), o.nic)
}

func inWords(vms []string) string {
	if len(vms) == 0 {
		return "no VM yet"
	}
	return "VM " + strings.Join(slices.Compact(slices.Sorted(slices.Values(vms))), ", ")
}
