// Package move moves the host from its NIC to a bridge that the NIC becomes a port of, and
// back: addresses, routes of all tables, neighbors and policy rules.
//
// The host keeps its connections. At every moment it has its addresses, and packets pass
// both ways (make before break):
//
//  1. the bridge gets the addresses, neighbors and rules, too, and the NIC becomes a port
//  2. when the bridge has a carrier, each route leads by the bridge, then no more by the NIC
//  3. the NIC loses the addresses
//
// [Back] does the same from the bridge to the NIC, with what the bridge has by then. Each part
// is one batch of rtnetlink messages, which the kernel works off before a signal can end this
// process. So there are few places at which a move can be cut off, and [ToBridge] and Back go
// on from each of them. The messages are the kernel's own, kept as bytes (package rtnl): the
// other link gets every attribute, known to qnet or not. Routes by router advertisements go by
// ioctl(2), so that the kernel takes them for its own.
//
// What to move, and whether that is allowed, is decided in package plan; step.MoveToBridge is
// the step. docs/lan.md describes for users what a move does.
//
// The keeper and its watchdog call this package, under the lock of the network's run
// directory, one at a time. It needs CAP_NET_ADMIN and, to solicit routers, CAP_NET_RAW. It
// acts on the network namespace of the calling thread.
//
// Sources: rtnetlink(7), RFC 4861 (router advertisements), RFC 4862 (duplicate address
// detection), RFC 8981 (temporary addresses), and the kernel's net/ipv6/{addrconf,route}.c,
// net/bridge/br_if.c.
package move
