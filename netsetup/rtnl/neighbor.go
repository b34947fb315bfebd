package netsetup

import (
	"encoding/binary"
	"net"

	"golang.org/x/sys/unix"
)

// neighbour is a Raw of RTM_NEWNEIGH.
type neighbour struct{ Raw }

func (n neighbour) family() int { return int(n.Raw[0]) }

func (n neighbour) index() int { return int(binary.NativeEndian.Uint32(n.Raw[4:])) }

func (n neighbour) state() uint16 { return binary.NativeEndian.Uint16(n.Raw[8:]) }

func (n neighbour) proxy() bool { return n.Raw[10]&unix.NTF_PROXY != 0 }

// set reports whether somebody set the neighbour, so that it must not be lost.
func (n neighbour) set() bool { return n.proxy() || n.state()&unix.NUD_PERMANENT != 0 }

// worth reports whether the neighbour is worth taking along.
func (n neighbour) worth() bool {
	known := uint16(unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE)
	return n.set() || n.state()&known != 0
}

// on is the neighbour on another link. What was learned is to be confirmed anew.
func (n neighbour) on(index int) neighbour {
	out := neighbour{n.edited(bodyKind, func(a attr) (attr, bool) {
		return a, a.kind != unix.NDA_CACHEINFO && a.kind != unix.NDA_PROBES
	})}
	binary.NativeEndian.PutUint32(out.Raw[4:], uint32(index))
	if !n.set() {
		binary.NativeEndian.PutUint16(out.Raw[8:], unix.NUD_STALE)
		out.Raw[10] &= unix.NTF_ROUTER
	}
	return out
}

func (n neighbour) mac() net.HardwareAddr { return n.attr(bodyKind, unix.NDA_LLADDR) }
