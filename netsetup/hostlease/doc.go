// Package hostlease renews the host's own DHCP lease (RFC 2131, 4.4.5) while its NIC is
// a port of a bridge, and keeps the address on the bridge as long as the lease lasts.
//
// The host's DHCP client runs on, on the port. Most clients receive nothing there: they
// listen for IPv4 on a link that hands every frame to its bridge. For these, a [Renewer]
// renews the lease from the bridge, with the same hardware address and client
// identifier, so that the server sees no difference. Other clients listen to all
// protocols, renew by themselves, and put the address on the port again: then
// [Renewer.Follow] moves it to the bridge, with its new lifetime.
//
// [Renew] and [Offers] ask a server once. The package sends DHCP messages and changes
// the lifetimes of the bridge's addresses, both of which need CAP_NET_ADMIN and
// CAP_NET_RAW; it serves no DHCP. Renew and Offers may be called concurrently; see
// Renewer for its methods.
package hostlease
