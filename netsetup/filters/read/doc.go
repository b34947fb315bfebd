// Package read reads the packet filters of a host, those of nftables and of
// iptables-legacy, into values of package filters.
//
// Ruleset takes one snapshot. A Cache takes several, and reads again only what
// changed. Reading changes nothing on the host: it runs no program and loads no
// kernel module.
package read
