// Package keeper is a supervisor's side of a network's keeper, the one process per
// network that changes links, rules and sysctls. Package server is that process,
// package upkeep what it does while VMs run.
//
// # Registration
//
// Join connects to the network's keeper. Where none runs, Join starts one: the same
// binary, in its own session, with no capability but CAP_NET_ADMIN, CAP_NET_RAW and
// CAP_NET_BIND_SERVICE. The connection, a SOCK_SEQPACKET UNIX socket, is the
// registration of a VM's ports. It stays open as long as the VM lives. When it ends,
// for whatever reason, the keeper undoes those ports, and with the last VM the
// network.
//
// Leave ends the registration. It returns when the keeper has undone the VM's ports,
// with the error of that undo; the error wraps host.ErrLeft if something stays
// on the host, and the journal then tells `qnet gc` of it. The connection stays open
// until Close or the end of the supervisor's process: if the supervisor dies before
// it has removed its own files, the keeper removes them.
//
// When a keeper dies, the first supervisor that notices starts the next one. That
// keeper adopts what bears the network's marks, and the supervisors register again
// with the ports they hold. If no supervisor does, Collect undoes the network, from
// the journal or, where that is damaged, by the marks. Collect leaves a network alone
// while a VM has one of its taps open: its supervisor is about to start a keeper.
//
// # Forwards
//
// The keeper opens the sockets of a VM's forwards when the VM joins, all or none, or when
// Registration.Forward asks; the supervisor gets them and relays, and the keeper has none of them
// open: they outlive it. In mode nat the keeper has rules besides, by which other machines reach
// the guest without the relay. It makes them behind its answer to the join, and tells as news that
// it has (Registration.Settled); the next keeper makes those that it was killed before. Both end
// with the registration.
//
// Who may have a port: every caller that may join. The keeper can bind ports below
// net.ipv4.ip_unprivileged_port_start, and does so for connections of root alone; the supervisor
// asks no more of it than the user who runs qnet forward may have (forward.MayBind).
//
// # Protocol
//
// A message is a line of JSON, see Request and Reply, with files as SCM_RIGHTS. The
// user may upgrade qnet while VMs run, so both ends name the protocol's Version, and
// the oldest version that they understand. A message of another version is read as
// far as it is known; unknown fields are ignored.
//
// An error crosses with its text, all its kinds (package host's sentinels, in a fixed
// order) and the command of the step that failed.
//
// # Locks
//
// All are files below <run dir>/locks, and are taken in this order:
//
//	start-<network>  Join holds it from its look for a keeper until one answers
//	net-<network>    the keeper holds it for its life: if it can be taken, the keeper is dead
//	plan             a keeper or Collect holds it while it plans, applies, mends or undoes
//
// Files below <run dir>/networks/<network>: journal.json, written before the first
// change, and keeper.sock.
package keeper
