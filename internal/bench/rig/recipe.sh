#!/bin/sh
# What qnet replaces: recipe.sh MODE TAP ALONE QEMU ARGUMENTS...
# runs QEMU on a tap of a bridge and takes it all down afterwards. ALONE is yes
# for the first VM of a network, which makes the bridge, too.
mode=$1 tap=$2 alone=$3; shift 3
bridge=rbr0 subnet=192.168.77

up() {
	ip link add $bridge type bridge
	case $mode in host-only | nat) ip addr add $subnet.1/24 dev $bridge ;; esac
	ip link set $bridge up
	case $mode in
	bridge) ip link set ${UPLINK:-eth1} master $bridge up ;;
	nat)
		sysctl -qw net.ipv4.ip_forward=1
		iptables -t nat -A POSTROUTING -s $subnet.0/24 ! -o $bridge -j MASQUERADE
		iptables -A FORWARD -i $bridge -s $subnet.0/24 -j ACCEPT
		iptables -A FORWARD -o $bridge -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
		;;
	esac
}

down() {
	case $mode in
	bridge) ip link set ${UPLINK:-eth1} nomaster ;;
	nat)
		iptables -D FORWARD -o $bridge -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
		iptables -D FORWARD -i $bridge -s $subnet.0/24 -j ACCEPT
		iptables -t nat -D POSTROUTING -s $subnet.0/24 ! -o $bridge -j MASQUERADE
		sysctl -qw net.ipv4.ip_forward=0
		;;
	esac
	ip link del $bridge
}

[ $alone = yes ] && up
ip tuntap add $tap mode tap vnet_hdr $TAP_OPTIONS
ip link set $tap master $bridge
ip link set $tap up
"$@"
ip link del $tap
[ $alone = yes ] && down
exit 0
