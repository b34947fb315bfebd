// Package reach is what a profile lets a guest reach by a NIC, beyond what the mode of its network
// says. Package egress of netsetup makes rules of it, and a network's DNS server answers by it.
//
// Values may be used concurrently.
package reach

import (
	"net/netip"
	"slices"
	"strings"
)

// Policy is what a guest may reach. The zero value is all that the network's mode promises.
type Policy struct {
	Isolated bool `json:"isolated,omitempty"` // isolated = true: no neighbour, and no neighbour reaches the guest
	NoHost   bool `json:"no_host,omitempty"`  // host = "none": of the host DHCP, names and the gateway's ping only
	NoLAN    bool `json:"no_lan,omitempty"`   // lan = false: no network of the host's

	// Listed says that the guest reaches what Entries allow and nothing else outside: egress = [...].
	Listed  bool    `json:"listed,omitempty"`
	Entries []Entry `json:"entries,omitempty"` // nil where there are none
}

// IsZero reports whether the guest may reach all that the network's mode promises.
func (p Policy) IsZero() bool { return !p.Isolated && !p.NoHost && !p.NoLAN && !p.Listed }

// Equal reports whether two policies are the same.
func (p Policy) Equal(o Policy) bool {
	return p.Isolated == o.Isolated && p.NoHost == o.NoHost && p.NoLAN == o.NoLAN && p.Listed == o.Listed && slices.Equal(p.Entries, o.Entries)
}

// Keys are the profile's keys that the policy comes from, as in a profile.
func (p Policy) Keys() []string {
	var keys []string
	for _, k := range []struct {
		set  bool
		text string
	}{{p.Isolated, "isolated = true"}, {p.NoHost, `host = "none"`}, {p.NoLAN, "lan = false"}, {p.Listed, "egress"}} {
		if k.set {
			keys = append(keys, k.text)
		}
	}
	return keys
}

// Text is how long the entries are together, in bytes.
func (p Policy) Text() int {
	n := 0
	for _, e := range p.Entries {
		n += len(e.String())
	}
	return n
}

// Find returns the entries that allow a name, as Entry.Name has names.
func (p Policy) Find(name string) []Entry {
	var found []Entry
	for _, e := range p.Entries {
		if e.Matches(name) {
			found = append(found, e)
		}
	}
	return found
}

// Contains reports whether the policy allows the address by a prefix, at whatever port.
func (p Policy) Contains(a netip.Addr) bool {
	return slices.ContainsFunc(p.Entries, func(e Entry) bool { return !e.Deny && e.Prefix.IsValid() && e.Prefix.Contains(a) })
}

// Matches reports whether the entry is a name that allows this one. A wildcard stands for one label
// or more.
func (e Entry) Matches(name string) bool {
	if suffix, wild := strings.CutPrefix(e.Name, "*"); wild {
		return len(name) > len(suffix) && strings.HasSuffix(name, suffix)
	}
	return e.Name != "" && e.Name == name
}
