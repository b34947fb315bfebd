package profiles

import (
	"fmt"

	"github.com/qnet-vm/qnet/profiles/ports"
	"github.com/qnet-vm/qnet/profiles/strict"
)

// Forward leads one port of the host to a port of the guest.
type Forward = ports.Forward

// forwards reads the ports of a NIC; sofar are the NICs before it.
func (d *decoder) forwards(key string, texts []string, mode Mode, sofar []NIC) []Forward {
	var list, others []Forward
	for _, n := range sofar {
		others = append(others, n.Forwards...)
	}
	if why := noForwards(mode); texts != nil && why != "" {
		d.Fail(key, "mode %s %s; allowed in: host-only, nat, bridge, user", mode, why)
		return nil
	}
	for i, text := range texts {
		key := fmt.Sprintf("%s[%d]", key, i)
		expanded, err := ports.Parse(text)
		if err != nil {
			d.Fail(key, "%v", err)
			continue
		}
		for _, f := range expanded {
			if o, ok := ports.Meeting(f, append(others, list...)); ok {
				d.Fail(key, "got %s, but %s has %s/%s already", strict.Quote(text), strict.Quote(o.String()), f.Listens(), f.Proto)
				break
			}
			d.forwardKeys[f] = key
		}
		list = append(list, expanded...)
	}
	if n := len(list) + len(others); n > ports.Most {
		d.Fail(key, "got %d forwards with those of the other nics, allowed: at most %d; without an address, a port is two: at 127.0.0.1 and at ::1", n, ports.Most)
	}
	return list
}

// noForwards says why a mode has no ports, "" for one that has.
func noForwards(m Mode) string {
	switch m {
	case Private:
		return "has none: the host is not on the network"
	case None:
		return "has none: the card is not connected"
	}
	return ""
}
