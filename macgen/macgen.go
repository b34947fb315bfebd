// Package macgen makes MAC addresses for guests: 52:54:00, the prefix QEMU and
// KVM guests use, and 24 bits of a hash or of random data. They are unicast and
// locally administered, so they collide with no vendor's.
//
// The functions are pure and safe for concurrent use.
package macgen

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"net"
)

// Prefix begins every address that this package makes.
var Prefix = [3]byte{0x52, 0x54, 0x00}

// Derive returns the address for an identity, such as a profile's path and name, and
// an index, such as the NIC's place in the profile. The same arguments always give
// the same address. The salt is random per host, so that two hosts with the same
// profile differ.
func Derive(salt []byte, identity string, index int) net.HardwareAddr {
	h := sha256.New()
	// Lengths in front keep ("ab", "c") and ("a", "bc") apart.
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(salt))))
	h.Write(salt)
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(identity))))
	h.Write([]byte(identity))
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(index)))
	return with(h.Sum(nil))
}

// Random returns an address from r, which usually is crypto/rand.Reader. The
// error is r's.
func Random(r io.Reader) (net.HardwareAddr, error) {
	var tail [3]byte
	if _, err := io.ReadFull(r, tail[:]); err != nil {
		return nil, fmt.Errorf("read random MAC: %w", err)
	}
	return with(tail[:]), nil
}

func with(tail []byte) net.HardwareAddr {
	return net.HardwareAddr{Prefix[0], Prefix[1], Prefix[2], tail[0], tail[1], tail[2]}
}
