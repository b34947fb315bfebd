// Package kernel does on Linux what steps ask for: a [Host] implements the interfaces of
// package step by rtnetlink, nftables, /proc/sys, /dev/net/tun, and the programs iptables,
// firewalld, systemd-resolved and network managers. Apart from package move, which moves
// the host between its NIC and a bridge, no other package changes the host.
//
// The package decides nothing: which change, in which order, and how to undo it are in the
// plan. A method makes one change, idempotent where its step says so, and its comment shows
// the command that it equals.
//
// A Host acts on the network namespace of the calling thread. It holds the files of taps
// until TakeTap, and owns the nftables tables that it made (NFT_TABLE_F_OWNER) until Close.
// Only the keeper, its watchdog and qnet gc change the host by one, with CAP_NET_ADMIN;
// qnet doctor tries what the kernel can do in a namespace of its own. The methods of a Host
// may not be called concurrently.
//
// Sources: rtnetlink(7), netlink(7), and the kernel's drivers/net/tun.c, drivers/net/tap.c,
// net/bridge/, Documentation/networking/{tuntap,ip-sysctl}.rst.
package kernel
