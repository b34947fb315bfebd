// Package upkeep is what a keeper does while VMs run, each a Task:
//
//	mender    does again what other programs undo of the network, and gives up a fight
//	silent    polls the packet filters whose changes cause no event, for the mender
//	zones     keeps the bridge in its firewalld zone
//	names     follows uplinks that other programs rename, or make again under their names
//	uplinks   turns forwarding on for uplinks that appear (nat)
//	pins      keeps guests reachable when others' routes take their addresses
//	resolver  makes systemd-resolved ask the network's DNS server
//	lease     renews the host's DHCP lease while its NIC is a port (bridge)
//	lan       follows the uplink's cable and MTU and the host's sleep, and finds out
//	          whether the LAN takes the guests' frames (bridge)
//	events    wakes the tasks above when the kernel's netlink sockets report a change
//
// New makes the tasks; package server runs each in a goroutine of one group, and
// joins all before it undoes the network. A task returns when its context ends, and
// joins its own goroutines first. A task that cannot go on returns an error: the
// others go on. A panic ends the keeper's process, and the next keeper adopts the
// network.
//
// There is one subscription to the kernel: events owns one socket for rtnetlink and
// one for nftables, and wakes the tasks that asked for the kind of message. An event
// says only that something has changed: each task looks at the host for what. Of routes,
// which may change a hundred times a second, only those wake a task that can matter to it
// (ways, about). Most tasks also look at intervals, because some changes cause no event.
// However many the events and however large the host, a task's looks take 2 % of a CPU at
// most (pace).
//
// Tasks know the keeper as a Network. They change the host and the journal only
// within Network.WhileRunning, which holds the keeper's lock of changes and the lock
// file "plan", and does nothing once the undo has begun. What tasks share, such as
// the uplinks whose forwarding is on, is used within WhileRunning only.
package upkeep
