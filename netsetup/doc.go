// Package netsetup decides what a network needs on this host and does it.
//
// The flow is one-way: Observe reads the host into Facts; NewPlan, a pure
// function, turns a Network and Facts into a Plan; Apply does its steps in
// order and undoes them all, the failed one included, when one fails; Undo walks
// them backwards. Rollback, teardown and the clean-up after a crash are that one
// function, which reads its steps from the Journal in the last case.
//
// What a plan does, in order (String of each step shows the equivalent command):
//
//  0. NetworkManager and systemd-networkd told to leave links named qn* alone
//  1. the bridge, down, with its MAC, MTU, STP off, no forward delay, marked by
//     ifalias "qnet:<network>"
//  2. sysctls of the bridge: no IPv6, no redirects, forwarding as the mode wants
//  3. nftables tables qnet_<network> (inet, and netdev for a private network),
//     marked by their comment; before the bridge goes up, so that nothing passes
//     unfiltered
//  4. the host's address on the bridge; the bridge up
//  5. nat only: forwarding of each uplink that has it off, with a rule that drops
//     what this would newly let pass between the host's other links
//  6. bridge mode only: the uplink becomes a port; where the host itself uses it,
//     the bridge has its sysctls, and MoveToBridge moves the host's addresses and
//     routes to the bridge. AwaitAnswers then lets that stand only if the gateways
//     that answered before do so again
//  7. accepts in other programs' iptables chains that would drop the network's
//     packets (package foreign decides which)
//
// and for each NIC of a VM: a tap, its mark "qnet:<network>/<vm>/<nic>", no IPv6
// on the host's side of it, port of the bridge, up; or, with macvtap and without a
// bridge, a macvtap link on the uplink. A probe's port also gets tables
// qnet_trace_<tap> (bridge and inet), whose rules mark its packets for a trace.
//
// Never touched: other programs' links, tables, routes, the global ip_forward,
// and files outside the run and state directories, but for a file of its own
// among their run-time configuration.
//
// RaiseMetrics lets other ways out go first while the cable of a bridge that has the
// host's routes is pulled.
//
// Pins keep guests reachable whose addresses other programs' routes take while a
// network runs.
//
// Mend does again what other programs undid while a network runs; Drift tells what
// is no longer as it was left; UndoByMarks undoes without a journal.
//
// Only the keeper process (package keeper) calls Apply and Undo. No function
// here is safe for concurrent use on the same network.
package netsetup
