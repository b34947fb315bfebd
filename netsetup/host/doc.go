// Package host is what qnet knows of the host: links, addresses, routes, policy rules,
// sysctls, packet filters, and the programs that configure them.
//
// [Observe] reads all that a plan depends on into [Facts], which are plain data: a plan is
// a pure function of them. [Holdings] are what the host has by one link, as rtnetlink
// messages, for a network in mode bridge. [Facts.GuestLink] answers by which
// link a guest's packets leave.
// The package also names what qnet makes on the host ([BridgeName], [TapName], marks,
// sysctl keys), and has the errors that the layers above tell apart ([ErrRefused] and the
// others).
//
// Observe reads in this order: links, addresses, routes, ways to the Internet, forwarding, resolvers, networks
// that other programs define, policy rules, packet filters; then the programs that
// configure links, and firewalld; and for a network in mode bridge the uplink's holdings,
// sysctls, DNS settings and DHCP client, and which gateways answer.
//
// Nothing here changes the host. Ask and Query.Ask send ARP and neighbor solicitations,
// which need CAP_NET_RAW. Everything else needs no rights, but shows less without: without
// CAP_NET_ADMIN no packet filters, which Facts.Unknown says. All functions may be called
// concurrently, and read the network namespace of the calling thread.
//
// Sources: rtnetlink(7), ip-route(8), ip-rule(8), resolv.conf(5), and the kernel's
// Documentation/networking/ip-sysctl.rst.
package host
