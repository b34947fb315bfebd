package rtnl

import (
	"encoding/binary"
	"net"

	"golang.org/x/sys/unix"
)

// Neighbor is a Raw of RTM_NEWNEIGH.
type Neighbor struct{ Raw }

func (n Neighbor) Family() int { return int(n.Raw[0]) }

func (n Neighbor) Index() int { return int(binary.NativeEndian.Uint32(n.Raw[4:])) }

func (n Neighbor) state() uint16 { return binary.NativeEndian.Uint16(n.Raw[8:]) }

func (n Neighbor) Proxy() bool { return n.Raw[10]&unix.NTF_PROXY != 0 }

// Set reports whether somebody set the neighbour, so that it must not be lost.
func (n Neighbor) Set() bool { return n.Proxy() || n.state()&unix.NUD_PERMANENT != 0 }

// Worth reports whether the neighbour is worth taking along.
func (n Neighbor) Worth() bool {
	known := uint16(unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE)
	return n.Set() || n.state()&known != 0
}

// On is the neighbour on another link. What was learned is to be confirmed anew.
func (n Neighbor) On(index int) Neighbor {
	out := Neighbor{n.edited(BodyKind, func(a Attr) (Attr, bool) {
		return a, a.Kind != unix.NDA_CACHEINFO && a.Kind != unix.NDA_PROBES
	})}
	binary.NativeEndian.PutUint32(out.Raw[4:], uint32(index))
	if !n.Set() {
		binary.NativeEndian.PutUint16(out.Raw[8:], unix.NUD_STALE)
		out.Raw[10] &= unix.NTF_ROUTER
	}
	return out
}

func (n Neighbor) HardwareAddr() net.HardwareAddr { return n.attr(BodyKind, unix.NDA_LLADDR) }
