package journal

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/qnet-vm/qnet/internal/atomicfile"
	"github.com/qnet-vm/qnet/internal/rundir"
)

func subnetPath(stateDir, network string) string { return filepath.Join(stateDir, "subnets", network) }

// LoadSubnet returns the subnet that the network had last time, zero if none. A damaged file
// counts as none.
func LoadSubnet(stateDir, network string) netip.Prefix {
	b, err := os.ReadFile(subnetPath(stateDir, network))
	if err != nil {
		return netip.Prefix{}
	}
	p, _ := netip.ParsePrefix(strings.TrimSpace(string(b)))
	return p
}

// Subnet6Of is the name by which LoadSubnet and SaveSubnet keep a network's IPv6 prefix. No
// network has it, as it has a ".".
func Subnet6Of(network string) string { return network + ".ipv6" }

// SaveSubnet keeps the network's subnet for the next time.
func SaveSubnet(stateDir, network string, p netip.Prefix) error {
	path := subnetPath(stateDir, network)
	if err := rundir.MakeState(stateDir, "subnets"); err != nil {
		return fmt.Errorf("save subnet: %w", err)
	}
	return atomicfile.Write(path, []byte(p.String()+"\n"))
}
