// Package states saves and loads, over QMP, the state of a guest: its memory and devices in
// a file of the caller's, or together with its disks in a snapshot within these.
//
// [Save] writes the memory of a guest that was stopped, through a file descriptor that is
// handed to QEMU with the command: QEMU opens no path. QEMU then has given its disks up
// (run state "postmigrate"); it is to quit, or [Reclaim] takes them back. [Load] reads
// memory into a QEMU that was started with the same machine and with "-incoming defer"; the
// guest stays paused.
//
// [TakeSnapshot], [RestoreSnapshot] and [DeleteSnapshot] are QEMU's jobs on qcow2 images
// (qapi/migration.json, since 6.0).
package states
