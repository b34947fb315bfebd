package filters_test

import (
	"fmt"
	"net/netip"

	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/profiles"
)

// hardened is what an administrator's /etc/nftables.conf leaves on a host.
var hardened = filters.Ruleset{Tables: []filters.Table{{
	Engine: filters.NFTables, Family: nft.INet, Name: "filter",
	Chains: []filters.Chain{{Name: "forward", Type: "filter", Hook: nft.Forward, Policy: filters.Discard}},
}}}

var dev = filters.Promise{
	Name: "dev", Mode: profiles.NAT, Bridge: "qn-dev", Uplinks: []string{"eth0"},
	Prefix: netip.MustParsePrefix("192.168.223.0/24"), Gateway: netip.MustParseAddr("192.168.223.1"),
}

func ExampleRuleset_Drops() {
	for _, p := range hardened.Packets(dev) {
		for _, d := range hardened.Drops(p) {
			fmt.Printf("%s: table %s %s, chain %s\n", d.PacketText(), d.Family, d.Table, d.Chain)
		}
	}
	// Output:
	// what guests send to the outside: table inet filter, chain forward
	// what the outside answers guests: table inet filter, chain forward
}

func ExampleRuleset_Answers() {
	for _, a := range hardened.Answers(dev) {
		fmt.Println(a.Evidence)
		for _, command := range a.Remedy.Commands {
			fmt.Println("#", command)
		}
	}
	// Output:
	// a ruleset of nft, such as /etc/nftables.conf (nftables, table inet filter, chain forward, policy drop) drops what guests send to the outside and what the outside answers guests
	// # nft insert rule inet filter forward iifname "qn-dev" accept
	// # nft insert rule inet filter forward oifname "qn-dev" ct state established,related accept
}
