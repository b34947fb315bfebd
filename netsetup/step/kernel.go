package step

// Kernel is what steps act on: the kernel, and the programs on the host that steps talk
// to. A call ends early, with the context's error, when the context ends.
type Kernel struct {
	Links
	Devices
	BridgePorts
	Addresses
	Pins
	Exits
	Routes
	Mover
	Neighbors
	Sysctls
	Tables
	Filters
	Zones
	Resolver
	Managers
	NetworkManager

	// Warn passes a message to the users of the network's VMs.
	Warn func(text string)
}
