// Package keeper runs one process per network, the only one that changes links,
// rules and sysctls.
//
// Join connects to a network's keeper and starts it first where none runs: the
// same binary, in its own session, with no capability but CAP_NET_ADMIN,
// CAP_NET_RAW and CAP_NET_BIND_SERVICE. The connection, a SOCK_SEQPACKET UNIX
// socket, is the registration of a VM's ports: it stays open as long as the VM
// lives, and when it ends, for whatever reason, the keeper undoes those ports.
// With the last VM it undoes the network and exits. Leave ends the registration
// and returns when the keeper is done with that; the keeper stays until the
// supervisor has removed its own files, or does that in its place.
//
// While it runs, a keeper serves DHCP and DNS on a network with a prefix, tells
// systemd-resolved of it, follows the guests' frames on their taps and the host's
// uplinks, puts right what other programs change of the network, and keeps guests
// reachable whose addresses others' routes take. On a LAN it sees to the uplink's
// cable and MTU and to the host's sleep, and finds out whether the LAN takes the
// guests' frames.
//
// A keeper that dies is followed by another, started by the first supervisor that
// notices: it takes over what bears the network's marks, and the supervisors
// register again with the ports they hold. VMs that have no port open any more, or
// do not come back within 3 s, are taken for dead. Nothing is adopted of which no VM has a tap open: that is
// undone, from the journal or, where that is damaged, by the marks.
//
// A keeper that moves the host from its NIC to a bridge first starts a guard
// process, which holds the other end of a pipe. When the keeper dies, and within
// 1.5 s no other has adopted the network, or none will because no VM has a tap open,
// the guard undoes it. It does nothing else, and ends with the network.
//
// Locks, all below <run dir>/locks, in the order they are taken:
//
//	start-<network>  held by Join from its look for a keeper until one answers
//	net-<network>    held by the keeper for its life: if it can be taken, the keeper is dead
//	plan             held while a network is planned, applied or undone
//
// Files below <run dir>/networks/<network>: journal.json, written before the
// first change, and keeper.sock.
package keeper
