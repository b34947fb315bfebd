package forward

import (
	"strconv"

	"github.com/qnet-vm/qnet/netsetup/host"
)

// MayBind refuses a port that a user could not bind, though a keeper could:
// net.ipv4.ip_unprivileged_port_start of ip(7), for both families. The error is host.ErrRefused.
func MayBind(port uint16, uid uint32) error {
	if lowest := lowestPort(); int(port) < lowest && uid != 0 {
		return host.Refuse("ports below %d are root's (sysctl net.ipv4.ip_unprivileged_port_start): run qnet as root, or forward a port from %d on", lowest, lowest)
	}
	return nil
}

// lowestPort is the first port that a process without rights may bind.
func lowestPort() int {
	text, err := host.ReadSysctl("net/ipv4/ip_unprivileged_port_start")
	lowest, convErr := strconv.Atoi(text)
	if err != nil || convErr != nil {
		return 1024 // PROT_SOCK of kernels before 4.11
	}
	return lowest
}
