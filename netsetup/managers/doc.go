// Package managers knows the programs that configure a host's links:
// systemd-networkd, NetworkManager, ConnMan, and DHCP clients. A manager that finds a
// new bridge or tap takes it for one more Ethernet link: it asks for a lease on it, or
// takes its address away (failures F12 to F14 of docs/failure-modes.md).
//
// Running lists the managers in the caller's network namespace. LeaveAlone and LetGo
// decide the run-time configuration, a file below /run, that makes a manager leave
// qnet's links or one NIC alone. Observe finds the program that configures one link,
// and how it names itself to the DHCP server, before that link becomes a bridge's port.
//
// The sources are each program's D-Bus API, networkd's lease files and the command
// lines in /proc. Only Reload and SetManaged change the host. All functions may be
// called concurrently.
package managers
