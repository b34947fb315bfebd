package netsetup

import (
	"errors"
	"fmt"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// ErrLost tells that something is gone that cannot be made again: a tap, whose
// other end is QEMU's.
var ErrLost = errors.New("it cannot be made again")

// Mend does again, in their order, the steps that no longer hold, unless skip says
// not to, and returns those it did. It goes on after an error.
func Mend(seen Seen, steps []Step, skip func(Step) bool) (mended []Step, err error) {
	var errs []error
	var now Kernel = seen
	anew := false // the bridge was made again
	for _, s := range steps {
		holds, err := s.Holds(now)
		if anew && goesWithBridge(s) {
			holds = false
		}
		if err == nil && (holds || skip(s)) {
			continue
		}
		if err == nil {
			err = mend(seen.Kernel, s)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("mend %q: %w", firstLine(s.String()), err))
			continue
		}
		mended = append(mended, s)
		now = seen.Kernel // what was seen no longer is so
		_, isBridge := s.(AddBridge)
		anew = anew || isBridge
	}
	return mended, errors.Join(errs...)
}

// goesWithBridge reports whether what the step did went with the bridge, and does
// not say so: a table's hook, and what systemd-resolved was told.
func goesWithBridge(s Step) bool {
	if table, ok := s.(AddTable); ok {
		return table.Table.Family == nft.NetDev
	}
	_, ok := s.(LinkDNS)
	return ok
}

// Seen is a Kernel that answers for links from one look at all, so that a network
// of many VMs is looked through in one request. It is of use until a link changes.
type Seen struct {
	Kernel
	links map[string]Link
}

// Look looks at all links.
func Look(k Kernel) (Seen, error) {
	list, err := k.Links()
	if err != nil {
		return Seen{}, err
	}
	seen := Seen{k, make(map[string]Link, len(list))}
	for _, l := range list {
		seen.links[l.Name] = l
	}
	return seen, nil
}

// Link finds the link as it was seen.
func (s Seen) Link(name string) (Link, bool, error) {
	l, ok := s.links[name]
	return l, ok, nil
}

// TapOf names the link of a step that connects a VM's NIC, a tap or a macvtap.
func TapOf(s Step) (name string, ok bool) {
	switch s := s.(type) {
	case AddTap:
		return s.Name, true
	case AddMacvtap:
		return s.Name, true
	}
	return "", false
}

// Lost lists those of the taps in the steps that are gone.
func Lost(seen Seen, steps []Step) []string {
	var names []string
	for _, s := range steps {
		tap, ok := TapOf(s)
		if !ok {
			continue
		}
		if holds, err := s.Holds(seen); err == nil && !holds {
			names = append(names, tap)
		}
	}
	return names
}

func mend(k Kernel, s Step) error {
	if _, ok := TapOf(s); ok {
		return ErrLost
	}
	return s.Do(k)
}

// Drift tells, in words for the user, what of the steps is no longer as it was
// left, or has company that Undo will take along.
func Drift(k Kernel, steps []Step) []string {
	var texts []string
	for _, s := range steps {
		switch s := s.(type) {
		case AddBridge:
			if holds, err := s.Holds(k); err == nil && !holds {
				texts = append(texts, fmt.Sprintf("bridge %s is gone or another's: left as it is", s.Name))
			}
			if s.Carries == "" { // else they go to the NIC
				texts = append(texts, strangers(k, s.Name, steps)...)
			}
		case SetSysctl:
			if now, err := k.Sysctl(s.Key); err == nil && s.Old != "" && now != s.Value {
				texts = append(texts, fmt.Sprintf("sysctl %s was %s, was set to %s by qnet and to %s by another: left as it is", s.Key, s.Old, s.Value, now))
			}
		case AddTable:
			if holds, err := s.Holds(k); err == nil && !holds {
				texts = append(texts, fmt.Sprintf("nftables table %s %s is gone or another's: left as it is", s.Table.Family, s.Table.Name))
			}
		}
	}
	return texts
}

// strangers are addresses of the bridge that no step added.
func strangers(k Kernel, bridge string, steps []Step) []string {
	addrs, err := k.Addrs(bridge)
	if err != nil {
		return nil
	}
	var texts []string
	for _, a := range addrs {
		ours := false
		for _, s := range steps {
			add, ok := s.(AddAddr)
			ours = ours || ok && add.Prefix == a
		}
		if !ours {
			texts = append(texts, fmt.Sprintf("address %s of bridge %s was another's, and went with the bridge", a, bridge))
		}
	}
	return texts
}
