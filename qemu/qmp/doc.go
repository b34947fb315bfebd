// Package qmp speaks the QEMU Machine Protocol over a connection that is
// already open, such as one end of a socketpair. Its [Monitor] implements the
// Monitor interface of github.com/digitalocean/go-qemu/qmp, whose types it
// uses, so everything written for that interface works with it.
//
// The peer is not trusted: a guest may have taken QEMU over. Lines have a
// maximum length, keys match exactly, every command has a deadline, replies
// are matched by id, and a subscriber that does not read its events loses the
// oldest ones instead of stopping the replies. Text from QEMU that ends up in
// an error passes through [Printable] first.
//
// A Monitor may be used by any number of goroutines, also from within a loop
// over its own events.
package qmp
