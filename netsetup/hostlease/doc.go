// Package hostlease renews the host's own DHCP lease (RFC 2131, 4.4.5) while its NIC is
// a port of a bridge, and keeps the bridge's address as long as the lease lasts.
//
// A client that goes on running on the port is one of two kinds. Most go deaf:
// they listen for IPv4 on a link that hands every frame to its bridge. For these,
// Keeper renews the lease from the bridge, with the same hardware address and
// client identifier, so that the server notices no difference. Others hear, renew
// by themselves, and put the address back on the port: then Keeper takes over the
// time they were given. Qnet never serves DHCP there.
package hostlease
