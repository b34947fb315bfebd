// Package hardware makes the machine of a profile, for a run and for `qnet plan` alike.
//
// Open opens everything that a profile names, with the rights of the user behind sudo.
// Config is the only maker of a machine.Config from a profile; without Files it is the
// machine that a run would start, in which files count as there. Refusal looks whether a
// run would be refused for its files' sake, and changes nothing.
//
// What a run opens or makes besides the network hangs in Open, has its place in Files, is
// put into the machine by Config, and ends with Files.Close.
package hardware
