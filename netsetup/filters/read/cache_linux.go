package read

import (
	"fmt"
	"hash/fnv"
	"os"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/filters"
)

// Cache takes snapshots and reads the rules again only after a change. Its zero value is
// ready. It is not safe for concurrent use.
type Cache struct {
	last       filters.Ruleset
	generation uint32
	legacy     bool // tables of iptables-legacy were loaded, which has no generation
	done       bool // last holds a snapshot
}

// Ruleset is the present snapshot.
func (r *Cache) Ruleset() filters.Ruleset {
	generation, err := currentGeneration()
	legacy := legacyLoaded()
	same := r.done && err == nil && generation == r.generation && !legacy && !r.legacy
	if same && r.bridgeAsBefore() {
		return r.last
	}
	r.last, r.generation, r.legacy, r.done = Ruleset(), generation, legacy, true
	return r.last
}

func (r *Cache) bridgeAsBefore() bool {
	return r.last.BridgeIPv4 == bridgeCalls("iptables") && r.last.BridgeIPv6 == bridgeCalls("ip6tables")
}

// Silent is a hash over the state of what sends no events when it changes: the rules
// of iptables-legacy without their counters, and the switches of br_netfilter. It is
// cheap where iptables-legacy is not loaded.
func Silent() uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, bridgeCalls("iptables"), bridgeCalls("ip6tables"))
	for _, f := range legacyFamilies {
		b, _ := os.ReadFile(f.names)
		for name := range strings.FieldsSeq(string(b)) {
			info, blob, err := f.blob(name)
			if err != nil {
				continue
			}
			entries, _ := f.entries(blob)
			for _, e := range entries {
				clear(e.data[f.entrySize-16 : f.entrySize]) // struct xt_counters
			}
			h.Write(info[:infoSize])
			h.Write(blob)
		}
	}
	return h.Sum64()
}

// legacyLoaded reports whether a table of iptables-legacy is loaded.
func legacyLoaded() bool {
	for _, f := range legacyFamilies {
		if b, _ := os.ReadFile(f.names); len(b) > 0 {
			return true
		}
	}
	return false
}
