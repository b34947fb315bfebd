// Package reach is what a profile lets a guest reach by a NIC, beyond what the mode of its network
// says. Package egress of netsetup makes rules of it.
//
// Values may be used concurrently.
package reach

// Policy is what a guest may reach. The zero value is all that the network's mode promises.
type Policy struct {
	Isolated bool `json:"isolated,omitempty"` // isolated = true: no neighbour, and no neighbour reaches the guest
	NoHost   bool `json:"no_host,omitempty"`  // host = "none": of the host DHCP, names and the gateway's ping only
	NoLAN    bool `json:"no_lan,omitempty"`   // lan = false: no network of the host's
}

// IsZero reports whether the guest may reach all that the network's mode promises.
func (p Policy) IsZero() bool { return p == Policy{} }

// Keys are the profile's keys that the policy comes from, as in a profile.
func (p Policy) Keys() []string {
	var keys []string
	for _, k := range []struct {
		set  bool
		text string
	}{{p.Isolated, "isolated = true"}, {p.NoHost, `host = "none"`}, {p.NoLAN, "lan = false"}} {
		if k.set {
			keys = append(keys, k.text)
		}
	}
	return keys
}
