// Package step holds the changes that qnet makes to a host, one type and one file each.
//
// A step is a value. Do makes the change, Undo takes it back, Holds compares the host
// with it, and String and UndoString are the commands of ip(8), nft(8), sysctl(8) and the
// like that do the same. A step decides nothing: package plan chooses the steps and their
// order, package apply does and undoes lists of them, and package journal keeps them.
//
// A step acts on the host only through Kernel. Its parts are small interfaces, each
// declared in the file of the step that calls it (those about links in links.go).
// Package kernel implements them on Linux, and package steptest in memory.
//
// What every step keeps to:
//
//   - Do refuses an object of its name that does not bear qnet's mark (host.ErrNotOurs).
//   - Undo may be called again, after a Do that failed half-way, and by a process that
//     never called Do. It accepts what is gone, and leaves alone what another program put
//     in its place.
//   - The name of the type and its JSON tags are the journal's: they never change, so that
//     a new qnet can undo what an older one did.
//
// Steps are safe to copy. Only packages apply, journal and keeper call Do, Undo and Holds,
// for one network at a time; apply.Undo undoes Concurrent steps while the kernel deletes
// links.
package step
