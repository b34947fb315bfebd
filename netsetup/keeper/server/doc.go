// Package server is a keeper's process: it makes one network, has DHCP and DNS served on
// it by a clerk (package clerk), registers the VMs that join, and undoes what it made when the last VM leaves.
// Package keeper is the supervisors' side of it, package upkeep what it does while
// VMs run.
//
// # Life
//
// Main takes the network's keeper lock, plans and applies the network (or adopts one
// whose keeper died), and says on fd 3 that it serves, or why not. It then runs until
// the last VM leaves, or no VM joins within 10 s of the start. The end has one order, in
// server.end:
//
//  1. no request changes the network any more (server.over);
//  2. the socket goes: a supervisor that comes now starts the next keeper, which
//     waits for the keeper lock;
//  3. the tasks of upkeep end and are joined;
//  4. the VMs' watchers and writers end and are joined;
//  5. the clerk gets its end, the network is undone, and the clerk's sockets are closed;
//  6. the keeper lock is released;
//  7. the supervisor that left gets its answer, with the error of the undo.
//
// SIGTERM does not take the network from its VMs. A keeper that no VM has joined ends. Any
// other goes on while the supervisor that started it lives: both are in the same service or
// login session, whose end sends SIGTERM to both, and that supervisor's guest still needs
// the network to shut down. If VMs are left when that supervisor is gone, the keeper ends
// between two changes and undoes nothing, as if it were killed. Another VM's supervisor
// then starts the next keeper, in its own service, and the first service has ended.
//
// A keeper that adopted a network counts its VMs as away until their supervisors
// register again. It takes those for dead that hold no port open any more, or do not
// come back within 3 s.
//
// A keeper whose steward has died can have no clerk started. It leaves the network to the next
// keeper, as after SIGTERM.
//
// A keeper that moves the host from its NIC to a bridge first starts a watchdog
// process, which holds the other end of a pipe. When the keeper dies, the watchdog
// undoes the network unless another keeper adopts it within 1.5 s. It does nothing
// else, and ends with the network.
//
// # Goroutines
//
// Every goroutine has an owner that joins it:
//
//	owner            goroutine                                        joined in step
//	server.tasks     each task of upkeep; expect, which ends a keeper
//	                 that waits in vain; heedTerm                     3
//	member           its writer, and one watcher for each tap         4, or when the VM leaves
//	clerk.Clerk      the one that hears the clerk                     5
//	server.clients   the acceptor, and one reader for each connection after 7
//	watchdog         the one that restarts the watchdog               ends with the process
//
// A task must not wait for the end, because the end joins the task: it calls
// server.stop, which only asks for it. A connection's reader may wait: server.finish.
// A panic in any goroutine ends the process, as a kill does: the next keeper adopts
// the network, or the watchdog or `qnet gc` undoes it.
//
// # Locks
//
// In the order in which they are taken:
//
//	net-<network>   (file) for the keeper's life
//	server.changes  one change to the network at a time: a join, a leave, a task's
//	                WhileRunning, the undo. It guards the host, the journal, the
//	                services and server.over. A wait for it ends with a context.
//	plan            (file) one change of all networks of the run directory
//	server.mu       guards the VMs and notes. It is held for no call that waits.
//
// A VM's registration is written with both changes and mu held, so holding either is
// enough to read it; only what its watchers see of the guest changes under mu alone.
//
// # Notes
//
// What a supervisor hears unasked goes through its member's outbox and one writer, in
// the order in which it was said. A supervisor that does not read loses news, never
// an answer, and delays no other.
package server
