package rtnl

import (
	"encoding/binary"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// attributes of RTM_GETNETCONF (linux/netconf.h).
const (
	netconfIndex      = 1 // NETCONFA_IFINDEX
	netconfForwarding = 2 // NETCONFA_FORWARDING
)

// Forwarding reads net.ipv4.conf.<link>.forwarding of all links at once, by their
// index: from /proc/sys it takes three system calls a link.
//
//	ip -4 netconf
func (c Conn) Forwarding() (map[int]string, error) {
	list, err := c.Dump(unix.RTM_GETNETCONF, []byte{unix.AF_INET, 0, 0, 0})
	if err != nil {
		return nil, err
	}
	found := make(map[int]string, len(list))
	for _, raw := range list {
		if len(raw) < 4 {
			continue
		}
		attrs, err := netlink.NewAttributeDecoder(raw[4:])
		if err != nil {
			return nil, err
		}
		index, on := 0, ""
		for attrs.Next() {
			switch data := attrs.Bytes(); {
			case len(data) != 4:
			case attrs.Type() == netconfIndex:
				index = int(int32(binary.NativeEndian.Uint32(data))) // negative for "all" and "default"
			case attrs.Type() == netconfForwarding:
				if on = "0"; binary.NativeEndian.Uint32(data) != 0 {
					on = "1"
				}
			}
		}
		if err := attrs.Err(); err != nil {
			return nil, err
		}
		if index > 0 && on != "" {
			found[index] = on
		}
	}
	return found, nil
}
