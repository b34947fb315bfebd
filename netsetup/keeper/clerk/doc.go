// Package clerk serves DHCP and DNS of a network in a process without rights, so that a
// guest that finds a mistake in how its messages are read gains nothing by it (promise P15).
//
// There are two processes. The supervisor that starts the keeper starts the steward ([Steward]),
// once its VM runs: the keeper has neither the rights to become another user nor to end a
// process of one. The steward has a user of the network's own, no capability, no_new_privs, and
// Landlock leaves it no files but programs' libraries. It does one thing: it starts clerks,
// ends them, and says that they ended. It ends with the keeper, and its clerk with it.
//
// A clerk ([Main]) gets the sockets that the keeper opened, and a socket to the keeper. It
// puts a filter of system calls upon itself before it reads a packet: it makes no connections
// but those of IPv4 and IPv6, by which it asks the host's name servers, starts no program and
// touches no other process. What the lease file says it reads from a descriptor.
//
// The keeper's end of both is a [Clerk]. The keeper decides each VM's address and keeps the
// lease file; what a clerk says is checked, bounded, and used for little: which clients have
// taken their addresses, what the user should know, and which addresses a name has that a guest's
// list allows. When a clerk dies, the keeper has the
// next one started with the same sockets, in which messages wait meanwhile.
package clerk
