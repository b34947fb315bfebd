package nft_test

import (
	"fmt"
	"net/netip"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// A table as text, which nft -f reads and `qnet plan` shows.
func ExampleTable_String() {
	subnet := netip.MustParsePrefix("192.168.223.0/24")
	fmt.Print(nft.Table{
		Family: nft.IP, Name: "qnet_dev", Comment: "qnet:dev",
		Sets: []nft.Set{{Name: "uplinks", Links: []string{"eth0"}}},
		Chains: []nft.Chain{{
			Name: "postrouting", Type: "nat", Hook: nft.Postrouting, Priority: 100, Policy: nft.Accept,
			Rules: []nft.Rule{
				{OutLink: nft.Link("@uplinks"), Source: subnet, TCPUDP: true, Do: nft.MasqueradePorts},
				{OutLink: nft.NotLink("qn-dev"), Source: subnet, Do: nft.Masquerade},
			},
		}},
	})
	// Output:
	// table ip qnet_dev {
	// 	comment "qnet:dev"
	// 	set uplinks {
	// 		type ifname
	// 		elements = { "eth0" }
	// 	}
	// 	chain postrouting {
	// 		type nat hook postrouting priority 100; policy accept;
	// 		oifname @uplinks ip saddr 192.168.223.0/24 meta l4proto { tcp, udp } masquerade to :1024-65535
	// 		oifname != "qn-dev" ip saddr 192.168.223.0/24 masquerade
	// 	}
	// }
}
