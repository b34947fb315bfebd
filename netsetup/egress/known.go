package egress

import (
	"net/netip"
	"time"
)

// Bounds of what DNS opens for a guest, at a time.
const (
	MostOfName = 1000  // addresses of a name
	MostOfPort = 20000 // addresses of all names
)

// Known is what DNS has opened for a guest, as far as its bounds need it, and the names that were
// refused. The zero value is empty. It may not be used concurrently.
type Known struct {
	until   map[named]time.Time
	ofName  map[string]int
	refused map[string]uint64
}

type named struct {
	name    string
	address netip.Addr
}

// Admit reports whether addresses of a name may be added, for a time from now on. They count then.
func (k *Known) Admit(name string, addresses []netip.Addr, now time.Time, ttl time.Duration) bool {
	if k.until == nil {
		k.until, k.ofName = map[named]time.Time{}, map[string]int{}
	}
	fresh := 0
	for _, a := range addresses {
		if _, known := k.until[named{name, a}]; !known {
			fresh++
		}
	}
	if len(k.until)+fresh > MostOfPort || k.ofName[name]+fresh > MostOfName {
		k.forget(now)
	}
	if len(k.until)+fresh > MostOfPort || k.ofName[name]+fresh > MostOfName {
		return false
	}
	until := now.Add(min(max(ttl, leastTTL), mostTTL) + grace)
	for _, a := range addresses {
		key := named{name, a}
		if _, known := k.until[key]; !known {
			k.ofName[name]++
		}
		k.until[key] = until
	}
	return true
}

// forget removes what has expired.
func (k *Known) forget(now time.Time) {
	for key, until := range k.until {
		if now.After(until) {
			delete(k.until, key)
			if k.ofName[key.name]--; k.ofName[key.name] == 0 {
				delete(k.ofName, key.name)
			}
		}
	}
}

// mostRefused bounds the names counted. Those behind it count as otherNames.
const (
	mostRefused = 64
	otherNames  = "other names"
)

// Refuse counts a name that the guest asked for and may not have.
func (k *Known) Refuse(name string) {
	if k.refused == nil {
		k.refused = map[string]uint64{}
	}
	if _, known := k.refused[name]; !known && len(k.refused) >= mostRefused {
		name = otherNames
	}
	k.refused[name]++
}

// Refused are the names counted, with how often each was refused.
func (k *Known) Refused() map[string]uint64 { return k.refused }
