package step

import (
	"fmt"
)

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
