package step

import (
	"context"
	"fmt"
	"slices"
)

// Drift tells of a bridge that is gone, and of addresses that will go with it.
func (s AddBridge) Drift(ctx context.Context, k Kernel, all []Step) []string {
	var texts []string
	if holds, err := s.Holds(ctx, k); err == nil && !holds {
		texts = append(texts, fmt.Sprintf("bridge %s is gone or another's: left as it is", s.Name))
	}
	if s.Carries == "" { // else the addresses go to the NIC
		texts = append(texts, strangers(ctx, k, s.Name, all)...)
	}
	return texts
}

// Drift tells of a value that another program wrote over ours.
func (s SetSysctl) Drift(ctx context.Context, k Kernel, _ []Step) []string {
	now, err := k.Sysctl(ctx, s.Key)
	if err != nil || s.Old == "" || now == s.Value {
		return nil
	}
	return []string{fmt.Sprintf("sysctl %s was %s, was set to %s by qnet and to %s by another: left as it is", s.Key, s.Old, s.Value, now)}
}

// Drift tells of a table that is gone.
func (s AddTable) Drift(ctx context.Context, k Kernel, _ []Step) []string {
	if holds, err := s.Holds(ctx, k); err != nil || holds {
		return nil
	}
	return []string{fmt.Sprintf("nftables table %s %s is gone or another's: left as it is", s.Table.Family, s.Table.Name)}
}

// strangers are addresses of the bridge that no step added.
func strangers(ctx context.Context, k Kernel, bridge string, steps []Step) []string {
	addrs, err := k.Addrs(ctx, bridge)
	if err != nil {
		return nil
	}
	ours := All[AddAddr](steps)
	var texts []string
	for _, a := range addrs {
		if !slices.ContainsFunc(ours, func(s AddAddr) bool { return s.Prefix == a }) {
			texts = append(texts, fmt.Sprintf("address %s of bridge %s was another's, and went with the bridge", a, bridge))
		}
	}
	return texts
}
