package rtnl

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// portIsolated is IFLA_BRPORT_ISOLATED (linux/if_link.h), since Linux 4.18.
const portIsolated = 33

// PortIsolated reports whether the link with that index is an isolated port of a bridge.
//
//	bridge -d link show dev LINK
func (c *Conn) PortIsolated(link int) (bool, error) {
	request := make([]byte, linkHeader)
	binary.NativeEndian.PutUint32(request[4:], uint32(link)) // ifi_index
	list, err := c.get(unix.RTM_GETLINK, request)
	if err != nil || len(list) == 0 {
		return false, explained(err)
	}
	port := Message(list[0].attr(linkHeader, unix.IFLA_LINKINFO)).attr(0, unix.IFLA_INFO_SLAVE_DATA)
	value := Message(port).attr(0, portIsolated)
	return len(value) > 0 && value[0] != 0, nil
}

// IsolatePort makes a request that isolates the port of a bridge with that index: the bridge passes
// nothing between isolated ports.
//
//	bridge link set dev LINK isolated on
func IsolatePort(link int) Request {
	data := make([]byte, linkHeader)
	data[0] = unix.AF_BRIDGE
	binary.NativeEndian.PutUint32(data[4:], uint32(link))
	nested := Nest(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, Attr{portIsolated, []byte{1}})
	return Request{kind: unix.RTM_SETLINK, data: Append(data, nested), op: "isolate port"}
}
