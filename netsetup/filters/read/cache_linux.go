package read

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"os"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/filters"
)

// Cache takes snapshots one after the other, and reads again only what changed.
// It is not safe for concurrent use.
type Cache struct {
	last       filters.Ruleset
	generation uint32
	names      []byte // of the tables of iptables-legacy, which tell no generation
	done       bool
}

// Ruleset is the newest snapshot.
func (r *Cache) Ruleset() filters.Ruleset {
	generation, err := currentGeneration()
	names := legacyNames()
	known := r.done && err == nil && generation == r.generation
	if known && len(names) == 0 && bytes.Equal(names, r.names) && r.bridgeAsBefore() {
		return r.last
	}
	r.last, r.generation, r.names, r.done = Ruleset(), generation, names, true
	return r.last
}

func (r *Cache) bridgeAsBefore() bool {
	return r.last.BridgeIPv4 == bridgeCalls("iptables") && r.last.BridgeIPv6 == bridgeCalls("ip6tables")
}

// Silent numbers the state of what sends no events: the rules of iptables-legacy,
// without their counters, and br_netfilter's switches. It is cheap where the
// former is not loaded.
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

// legacyNames are the tables of iptables-legacy that are loaded.
func legacyNames() []byte {
	var all []byte
	for _, f := range legacyFamilies {
		b, _ := os.ReadFile(f.names)
		all = append(all, b...)
	}
	return all
}
