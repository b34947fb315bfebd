// Package netsetup is the theory of operation of qnet's network half; the code is in
// the packages below it.
//
// # One way
//
//	profile's wish (plan.Network) --+
//	                                +--plan.New (pure)--> Plan --apply.Do--> live network --apply.Undo--> the host as before
//	host --host.Observe--> Facts  --+                      |
//	                                                       +--journal, written before the first step
//
// host.Observe reads the host into Facts and changes nothing. plan.New decides everything
// from a wish and Facts: names, subnet, rules, sysctls, as a list of steps. Each step
// knows how to Do and Undo itself, whether it still Holds, and the ip(8), nft(8) or
// sysctl(8) command that it equals: what qnet plan prints is what a run does. apply.Do
// does the list in order; when a step fails, it undoes that step and all before it.
// Rollback, teardown, qnet gc and the recovery after a crash are one function,
// apply.Undo. The journal holds plan and steps from before the first step on, so that
// whatever dies, the next qnet command can undo the rest; journal.UndoByMarks does it
// without a journal, by the marks on links and tables.
//
// # Who changes the host
//
// Only a keeper process changes the host, and its watchdog during the move to a LAN
// bridge: one keeper for each network, started by the first VM on it, gone with the last.
// A VM's supervisor keeps a connection to the keeper open; that connection is the VM's
// registration. While VMs run, the keeper's tasks (package upkeep) repair what other
// programs change, follow uplinks and VPNs, and keep the host's own DHCP lease.
//
// Never touched: other programs' links, tables, routes and policies, the global
// ip_forward, and files outside the run and state directories, but for a file of qnet's
// own among another program's run-time configuration. docs/host-changes.md lists every
// change, generated from the plans.
//
// # Who may import whom
//
// A package imports packages of rows below its own, and of its own row where the row
// says so. depguard holds the rows (.golangci.yml), and TestLayers in
// internal/lab/house holds docs/architecture.md, which has all packages of the tree, to the code.
//
//	keeper/server           the keeper process: registrations, addresses, the watchdog; imports keeper/upkeep, keeper/clerk
//	keeper/clerk            DHCP and DNS in a process without rights
//	keeper/upkeep           tasks while VMs run
//	keeper                  a supervisor's side: join, leave, list, collect, the protocol
//	hostlease               the host's own DHCP lease while its NIC is a port
//	kernel                  the only writer of the host; implements step.Kernel; imports move
//	move                    the host's addresses and routes, from its NIC to a bridge and back
//	journal                 the plan and what was done, on disk; undo by it or by marks
//	plan                    pure: what a network needs
//	apply                   lists of steps done, undone, mended
//	step                    one change each, and the small interfaces they act through
//	host                    what the host has: Facts, and the only observer
//	filters/read, filters/iptables    other programs' packet filters read, and accepts put into iptables
//	filters                 other programs' packet filters as data: who drops this packet, what lets it pass
//	ways                    where packets to the Internet go, asked of the kernel; imports rtnl
//	managers, firewalld, resolved     other programs that configure links, zones and name servers
//	rtnl, nft, neigh, dhcp, dns, guestwatch    protocols: they import nothing of netsetup
//
// package qemu and this half do not know each other; internal/supervisor uses both.
package netsetup
