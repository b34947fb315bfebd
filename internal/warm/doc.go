// Package warm keeps guests that were booted for others to begin from. The first run with
// --warm boots one, as a VM of its own, and suspends it when its first boot is over. Each VM
// that begins from it, a clone, has an overlay on its disk, and loads its memory. The guest's
// agent tells it who it is before its cables are plugged.
//
//	<images>/warm/warm-<key>/      a booted guest, read-only: a VM's directory (vmdir) and
//	    disk.qcow2                 its disk, an overlay on the image
//	    memory/                    its memory and devices (saved)
//	    warm.json                  the Record
//	<images>/warm.new/warm-<key>/  the same while it boots
//	<images>/locks/warm-<key>      held by the process that boots it
//
// A booted guest gets its name in warm in one go, when all of it is on the disk. So it is there
// whole or not at all, whenever a process is killed.
//
// All files are the user's. The methods of a Cache may be called concurrently, by several
// processes.
package warm
