package packet

import (
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// UDPTo returns a filter that passes the unfragmented UDP datagrams to a port. It is
// for a socket that listens for IPv4, and ignores the frame's protocol.
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

// Neighbours is a filter that passes ARP and neighbour advertisements.
//
//	tcpdump -dd "arp or icmp6[0] = 136"
var Neighbours = []bpf.Instruction{
	bpf.LoadAbsolute{Off: EtherLen - 2, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: ARP, SkipTrue: 5},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: IPv6, SkipTrue: 5},
	bpf.LoadAbsolute{Off: EtherLen + 6, Size: 1}, // next header
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: 3},
	bpf.LoadAbsolute{Off: EtherLen + ipv6Len, Size: 1}, // type
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: neighbourAdvertisement, SkipTrue: 1},
	bpf.RetConstant{Val: 1 << 16},
	bpf.RetConstant{Val: 0},
}
