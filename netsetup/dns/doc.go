// Package dns is the small DNS server that a network's keeper runs on the
// network's bridge: it answers for the VMs' names and passes everything else on
// to the name servers of the host.
//
// What it decides, in this order:
//
//   - Names below qnet, names without a dot, and the reverse names of the
//     network's prefix are answered here, from Config.Lookup and Config.Reverse.
//     None of these questions leaves the host, except those about a top-level
//     domain itself (its NS, SOA, DS and DNSKEY records), which only resolvers ask.
//   - Everything else goes byte for byte, under an id and from a port of its own,
//     to the servers of resolv.conf in their order, over the transport it came by.
//   - Clients outside the prefix and messages that are no queries get no answer.
//
// It touches nothing but its two sockets and those to the name servers. It keeps
// no cache: the servers it asks have one, and an answer that was remembered here
// could outlive a change of the host's network.
//
// How a message becomes an answer (zone, query) is pure and is fuzzed. Around it,
// everything that a client can make grow is bounded: see limits.
package dns
