// Package probe tries a network with a synthetic guest (package guest). In a second it
// goes through what a guest needs: a lease, the gateway, names, a connection to the
// outside, a full-size packet, and what the network's mode forbids.
//
// Run does all of it and reports each step. About a step that fails it says where the
// packets vanished and what to do: from a trace of nftables where the kernel has one,
// and otherwise from the rules.
package probe
