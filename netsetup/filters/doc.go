// Package filters holds the packet filters of the other programs on a host as data,
// and says which of them drop the packets of a qnet network and what lets these
// pass. It is pure: package read takes the snapshots, package iptables runs the
// iptables programs.
//
// A snapshot is a Ruleset: every table but qnet's own, of nftables (to which the
// tables of iptables-nft belong) and of iptables-legacy. Ruleset.Drops walks a Packet
// through it as the kernel would. Ruleset.Answers walks all packets that a network
// promises to carry (Promise) and decides about each drop.
//
// An accept in one chain does not end a packet's way (failure mode F07): the walk
// asks every base chain of every table and reports each one that drops. Some
// conditions of rules are not understood, or depend on what is not known beforehand
// (a rate, a set of addresses that changes): such a rule may match. The field Unless
// of a Drop names an accept that may match first; the field May says why a rule may
// drop, but not surely.
//
// The walk assumes of qnet's packets that they bear no mark, that their source has a
// route back, and that nothing translates their addresses but qnet's own masquerade.
package filters
