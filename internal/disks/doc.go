// Package disks makes the disks of a VM that are not there yet: empty ones, and overlays on a
// base, and enlarges those that have become too small.
//
// An overlay names no base in its header, so that no image makes QEMU open another file. It
// carries a pin instead, in an extension of the header that QEMU keeps and no guest can write:
// path, format and digest of its base. The launcher states the base to QEMU, and refuses one
// of other bytes: with another base the guest would see a mixture of both, and nothing would
// complain.
//
// A disk that is made appears whole or not at all, pin included, whenever qnet is killed.
// Nothing here is written twice: the guest's data stays as it is. All functions act with the
// rights of their caller, and may be called for several disks at once.
package disks
