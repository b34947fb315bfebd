// Package plan decides what a network needs on this host. New turns what a profile asks
// (Network) and what the host has (host.Facts) into a Plan: names, subnet, MTU, and the steps
// in their order. The plan is data: qnet plan prints it, the keeper does it, the journal keeps
// it.
//
// The package is pure: it neither reads nor changes the host. Its functions may be called from
// several goroutines, but for those that change a Plan (AddForwarded): the keeper calls them,
// one at a time.
//
// What a plan does, in order (step.Step.String shows each as commands):
//
//  0. NetworkManager and systemd-networkd get the order to leave links named qn* alone.
//  1. The bridge is created down, with its MAC and MTU, without STP and forward delay, and
//     marked by the ifalias "qnet:<network>".
//  2. The bridge's sysctls: no IPv6, no redirects, forwarding as the mode wants it.
//  3. The nftables tables qnet_<network> (inet, and netdev for a private network), marked by
//     their comment. They come before the bridge is up, so that nothing passes unfiltered.
//  4. The host's address on the bridge; the bridge up.
//  5. Mode nat only: forwarding of each uplink that has it off. A rule drops what this would
//     newly let pass between the host's other links.
//  6. Mode bridge only: the uplink becomes a port. Where the host itself uses the uplink, the
//     bridge has its sysctls, step.MoveToBridge moves the host's addresses and routes to the
//     bridge, and step.AwaitAnswers fails, so that all is undone, unless the neighbours that
//     answered before do so again.
//  7. The bridge in a zone of firewalld, and accepts in other programs' iptables chains that
//     would drop the network's packets. Package filters decides which.
//
// PortSteps, for each NIC of a VM: a tap, its mark "qnet:<network>/<vm>/<nic>", no IPv6 on
// the host's side of it, the table of its guard (package guard), port of the bridge, up; or, with macvtap and without a bridge, a
// macvtap link on the uplink. The ports of a probe have tables qnet_trace_<tap> as well (netdev,
// bridge and inet), whose rules mark its packets for a trace (package traced).
//
// ForwardSteps, for the forwards of a NIC: elements of maps that give other machines' packets to
// ports of the host the guest as their destination (package forward).
//
// While a network runs, the keeper asks the plan again: for accepts when other programs'
// filters change (AcceptSteps), for uplinks that appear (ForwardingStep), for a firewalld
// that starts (Plan.Zone). Package pinned keeps guests reachable whose addresses other programs'
// routes take.
//
// A plan never touches other programs' links, tables and routes, the global ip_forward, and
// no files but its own among the run-time configuration of the programs of 0.
package plan
