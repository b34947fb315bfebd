// Package rtnl speaks rtnetlink(7) with messages kept as bytes. Addresses, routes,
// neighbors and policy rules that the kernel lists can be sent back for another link
// with every attribute, also with attributes that qnet does not know.
//
//   - A [Conn] lists messages until a list is whole, and sends requests in batches.
//   - [Address], [Route], [Neighbor] and [Rule] are single messages: they read fields, and
//     return edited copies. They encode as base64 text, so that a journal can hold them.
//   - A [Request] changes one thing. The function that makes it names the command of
//     ip(8) that it equals, such as [AppendRoute].
//   - The Command methods return that command in words, for plans.
//
// The package decides nothing. It changes the host only in [Conn.Send] and [Send], which
// need CAP_NET_ADMIN; lists need no rights. All functions act on the network namespace of
// the calling thread. Messages are values and may be used concurrently; a Conn may not.
//
// Sources: rtnetlink(7), netlink(7), the kernel's include/uapi/linux/{rtnetlink,if_addr,
// if_link,neighbour,fib_rules,netconf}.h, and ip-address(8), ip-route(8), ip-rule(8).
package rtnl
