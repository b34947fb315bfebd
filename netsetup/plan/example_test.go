package plan_test

import (
	"fmt"
	"net"

	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/profiles"
)

// A private network on a host without links, routes and filters, and one NIC of a VM, as
// commands.
func ExampleNew() {
	p, err := plan.New(plan.Network{Name: "lab", Mode: profiles.Private}, host.Facts{}, plan.Options{Salt: []byte("random")})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, s := range append(p.Steps, p.PortSteps(plan.NIC{VM: "web", Index: 0, Unguarded: true})...) {
		fmt.Println(s)
	}
	// Output:
	// ip link add qn-lab address 52:54:00:d4:7b:11 mtu 1500 type bridge stp_state 0 forward_delay 0 mcast_snooping 0
	// ip link set qn-lab alias qnet:lab
	// sysctl -qw net/ipv4/conf/qn-lab/accept_redirects=0
	// sysctl -qw net/ipv4/conf/qn-lab/send_redirects=0
	// sysctl -qw net/ipv4/conf/qn-lab/arp_ignore=1
	// sysctl -qw net/ipv4/conf/qn-lab/rp_filter=2
	// sysctl -qw net/ipv4/conf/qn-lab/forwarding=0
	// nft -f - <<'EOF'
	// table inet qnet_lab {
	// 	comment "qnet:lab"
	// 	chain from_guests {
	// 		type filter hook input priority 0; policy accept;
	// 		iifname "qn-lab" drop
	// 	}
	// 	chain through_host {
	// 		type filter hook forward priority 0; policy accept;
	// 		iifname "qn-lab" oifname "qn-lab" accept
	// 		iifname "qn-lab" drop
	// 		oifname "qn-lab" drop
	// 	}
	// }
	// EOF
	// nft -f - <<'EOF'
	// table netdev qnet_lab {
	// 	comment "qnet:lab"
	// 	chain to_host {
	// 		type filter hook ingress device "qn-lab" priority -300; policy drop;
	// 	}
	// }
	// EOF
	// ip link set qn-lab up
	// ip tuntap add qnweb0 mode tap user root group root vnet_hdr
	// ip link set qnweb0 alias qnet:lab/web/0
	// ip link set qnweb0 master qn-lab
	// ip link set qnweb0 up
}

// A network in mode bridge on a host that lacks the uplink.
func ExampleNew_refused() {
	facts := host.Facts{Links: []host.Link{{Name: "eth0", AltNames: []string{"enp2s0"}}}}
	_, err := plan.New(plan.Network{Name: "lan", Mode: profiles.Bridge, Uplink: "eth7"}, facts, plan.Options{})
	fmt.Println(err)
	// Output: plan network "lan": uplink "eth7": there is no such link: name one of eth0 (enp2s0); or leave uplink out
}

// A macvtap link for a guest without a guard, and how it is undone.
func ExamplePlan_PortSteps() {
	f := host.Facts{Links: []host.Link{{Index: 2, Name: "eth0", Kind: "device", Ethernet: true, Up: true, MTU: 1500}}}
	p, err := plan.New(plan.Network{Name: "lan", Mode: profiles.Bridge, Uplink: "eth0", Macvtap: true}, f, plan.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	steps := p.PortSteps(plan.NIC{VM: "web", Index: 0, MAC: net.HardwareAddr{0x52, 0x54, 0, 0x21, 0x34, 0x56}, Unguarded: true})
	for _, s := range steps {
		fmt.Println(s)
	}
	fmt.Println(apply.UndoScript(steps))
	// Output:
	// ip link add link eth0 name qnweb0 address 52:54:00:21:34:56 type macvtap mode bridge
	// ip link set qnweb0 alias qnet:lan/web/0
	// ip link set qnweb0 allmulticast on
	// ip link set qnweb0 up
	// ip link del qnweb0
}
