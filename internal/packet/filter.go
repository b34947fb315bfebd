package packet

import (
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// UDPTo passes the unfragmented UDP datagrams to a port. It is a filter for a
// socket that listens for IPv4: it does not look at the frame's protocol.
//
//	tcpdump -dd "udp dst port PORT and ip[6:2] & 0x3fff = 0"
func UDPTo(port uint16) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: EtherLen + 9, Size: 1}, // protocol
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 5},
		bpf.LoadAbsolute{Off: EtherLen + 6, Size: 2}, // more fragments, and the offset
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x3fff, SkipTrue: 3},
		bpf.LoadMemShift{Off: EtherLen}, // the header's length
		bpf.LoadIndirect{Off: EtherLen + 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(port), SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: 1 << 16},
	}
}
