// Package machine describes a virtual machine, and turns the description into QEMU's
// command line.
//
// A [Config] says what to build, from files that are open. [Check] validates it and looks
// at its disk images, changing nothing. [Prepare] does the same, and opens what one start
// needs beyond the caller's files: temporary overlays, readable copies. [Command] is pure
// and decides the whole command line, for a run and for `qnet plan`. Package qemu starts
// the process.
//
// A machine has a disk, a device or a channel more by a field of [Config], by a check of it
// in validate, and by a method of the builder that [Command] calls.
//
// QEMU opens nothing by a path of the host: what it needs beyond its own firmware is
// inherited. Descriptor 3 is its end of the QMP socketpair, 4 its end of the serial
// console, then come disks, taps, kernel and initrd, in the order of [Spec].Files.
//
// No text of a profile reaches one of QEMU's comma-separated options, except a
// few that are checked against a narrow alphabet first; ids are ours; image
// formats are named, never probed; and no backing file is opened because an
// image asks for it.
package machine
