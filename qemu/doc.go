// Package qemu turns a [machine.Config] into a running virtual machine.
//
// Package machine checks the config and decides the command line: [machine.Check],
// [machine.Prepare], [machine.Command]. [Launch] starts the process, which loads
// and then waits at a gate, before it looks at taps and devices: so QEMU and the
// network come up side by side. [Launched.Start] opens the gate, checks over QMP
// that QEMU built the machine that was asked for, lets the guest run, and falls
// back from KVM to TCG where the config leaves the choice. [StartAuto] is both in
// one call. [VM.Stop] climbs a ladder from the guest's power button to SIGKILL.
// [VM.Wait] returns how the process ended.
//
// A [VM]'s methods may be called concurrently. A [Launched] belongs to one
// goroutine.
//
// QEMU gets file descriptors and no rights. Everything it needs beyond its own
// firmware is opened by the caller and inherited. It has no capability and cannot
// gain one (no_new_privs, empty bounding set), a fixed environment, a seccomp
// filter, a session of its own, and it is killed when the process that started
// it ends for any reason.
//
// The caller's files stay open and stay the caller's: close them once the
// machine runs. Closing disk files earlier than QEMU ends is right, as the
// image locks belong to the descriptors.
package qemu
