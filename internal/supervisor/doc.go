// Package supervisor runs one VM from its profile to its end.
//
// Run, in order: takes the VM's lock; makes its directory and control socket;
// opens the profile's files with the caller's rights and checks them; joins the
// networks; starts QEMU and lets the guest go; carries its console; stops it when
// asked; and when QEMU is gone, for whatever reason, leaves the networks and
// removes what it made, last first. Each step that fails undoes those before it.
//
// Below <run dir>: locks/vm-<name>, held for the VM's life, and
// vms/<name>/control.sock. Below <state dir>, kept after the end:
// logs/<name>/console.log, qemu.log and qnet.log (what the user should know).
//
// The other functions talk to a running supervisor over its control socket: one
// request as a JSON line, answers as JSON lines, or the raw console.
package supervisor
