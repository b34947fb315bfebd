// Package probe is a synthetic guest: it joins a network as any VM does, through
// the network's keeper, with a tap, an address and rules like theirs, and plays
// the guest itself, frame by frame, in place of QEMU. In a second it goes through
// what a guest needs: a lease, the gateway, names, a connection to the outside, a
// full-size packet, and what its mode forbids.
//
// Run does all of it and reports each step. Join gives the guest alone, for tests
// that need a guest and no machine.
//
// songgao/water carries the frames over the tap that the keeper made. Nothing of
// the host is changed here: the keeper does that, and undoes it when the probe
// leaves or is killed.
package probe
