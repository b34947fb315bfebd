// Package supervisor runs one VM from its profile to its end.
//
// Run takes the VM's lock, makes its directory and control socket, opens the profile's
// files with the user's rights (package hardware) and checks them, starts QEMU, joins the networks, gives
// up root's rights, and lets the guest run. It then carries the guest's console, and
// stops the VM when it is asked to. When QEMU has ended, for whatever reason, Run leaves
// the networks and removes what it made, the last thing first. A step that fails undoes
// those before it.
//
// Below the run directory it has the VM's lock and control socket (see rundir). Below
// the state directory it keeps, also after the VM's end, logs/<name>/console.log,
// qemu.log and qnet.log: notes to the user, and an undo that failed.
package supervisor
