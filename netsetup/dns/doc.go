// Package dns is the small DNS server (RFC 1034, 1035, 6891) that a network's clerk
// runs on the network's bridge: it answers for the VMs' names and passes everything
// else on to the name servers of the host.
//
// It decides about a message in this order:
//
//   - Names below qnet, names without a dot, and the reverse names of the
//     network's prefix are answered here, from Config.Lookup and Config.Reverse.
//     None of these questions leaves the host, except those about a top-level
//     domain itself (its NS, SOA, DS and DNSKEY records), which only resolvers ask.
//   - Everything else goes byte for byte, under an id and from a port of its own,
//     to the servers of resolv.conf in their order, over the transport it came by.
//   - Clients outside the prefix and messages other than queries get no answer.
//
// An answer that leads a client to itself (loopback, link-local) has no records: see answers.Rebinds.
//
// A small cache keeps answers of the name servers for as long as their records live,
// a minute at most. It forgets them all when resolv.conf names other servers, so that
// no answer outlives a change of the host's network.
//
// The package reads resolv.conf, unless Config.Conf says what it holds, and uses its two sockets and those to the name servers.
// How a message becomes an answer (zone, query, records) is pure and is fuzzed. Around it,
// everything that a client can make grow is bounded, for all clients and for each: see
// limits. A panic costs one message its answer. A [Server]'s methods
// may be called concurrently; it calls the functions of its [Config] concurrently, too.
package dns
