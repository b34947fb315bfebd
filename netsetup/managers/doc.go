// Package managers knows the programs that configure a host's links:
// systemd-networkd, NetworkManager and ConnMan. Left alone, they take a bridge or
// a tap for one more Ethernet link, ask for a lease on it, or take its address
// away (failures F12 to F14).
//
// It tells which of them run in the caller's network namespace, and what makes
// each leave qnet's links alone by its run-time configuration: a file below /run
// that it is then told to read.
//
// Observe tells which program, DHCP clients included, configures one link, and how
// it names itself to the DHCP server, for a NIC that is to become a port.
//
// Nothing here changes the host but Reload and SetManaged.
package managers
