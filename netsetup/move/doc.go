// Package move moves what the host has by its NIC to a bridge that the NIC becomes a
// port of, and back: addresses, routes of all tables, neighbors and policy rules. The
// steps step.MoveToBridge says in which order, and why; docs/lan.md what users see of it.
//
// Each part is one batch of rtnetlink(7) messages, which the kernel works off before
// anything can kill this process. The messages are the kernel's own, kept as bytes
// (package rtnl), so that the other link gets every attribute, known to qnet or not.
//
// Only the keeper and its watchdog move a host, one at a time.
package move
