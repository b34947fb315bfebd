// Package saved is what a VM goes on from that was suspended to disk: the memory and devices
// of its guest, and a record of the machine and disks that they belong to.
//
//	<vms>/<vm>/memory/state        what QEMU wrote
//	<vms>/<vm>/memory/record.json  the Record
//	<vms>/<vm>/memory.new/         the same while it is written
//	<vms>/<vm>/memory.used/        the same from the moment that the guest goes on
//
// A directory gets its name in one go (rename(2)) when everything in it is on the disk. So a
// VM has a whole state or none, whenever a process is killed: one that is left as memory.new
// is no state yet, and one that is left as memory.used is none any more, because its guest may
// have written to the disks since. Both are removed by the next run, which boots.
//
// Everything is the user's, mode 0600: it holds the guest's memory.
package saved
