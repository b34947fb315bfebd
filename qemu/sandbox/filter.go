package sandbox

import (
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/confine"
)

// An ioctl's request has its number in bits 0 to 7 and its kind in bits 8 to 15
// (asm-generic/ioctl.h).
const (
	kindMask   = 0xff00
	numberMask = 0xffff
	terminals  = 0x5400 // the kind of terminals, and from firstTun on of taps (linux/if_tun.h)
	links      = 0x8900 // SIOC* (linux/sockios.h)
	firstTun   = 0x54c8
)

// tapRequests are what QEMU asks of a tap to use it: its features and header, offloads, the
// send buffer, its queues. The rest would change the tap: its address, owner, filter, carrier
// and whether it outlives its holders.
var tapRequests = []uint32{
	unix.TUNGETFEATURES, unix.TUNGETIFF, unix.TUNSETOFFLOAD, unix.TUNGETSNDBUF, unix.TUNSETSNDBUF,
	unix.TUNGETVNETHDRSZ, unix.TUNSETVNETHDRSZ, unix.TUNGETVNETLE, unix.TUNSETVNETLE, unix.TUNGETVNETBE, unix.TUNSETVNETBE,
	unix.TUNSETQUEUE,
}

// filter returns the filter. QEMU uses sockets that it was given, and makes none but those of
// a user-mode network, which are of IPv4 and IPv6.
func (n Need) filter() *confine.Filter {
	f := &confine.Filter{}
	f.On(unix.SYS_IOCTL, requests()...)
	f.On(unix.SYS_CLONE, // a user namespace of its own would give it capabilities in there
		confine.Argument(0), bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: unix.CLONE_NEWUSER, SkipFalse: 1}, confine.Fail(unix.EPERM), confine.Allow)
	f.Refuse(unix.ENOSYS, unix.SYS_CLONE3) // its flags are in memory; the C library then uses clone
	f.Refuse(unix.EPERM, confine.Intrusive...)
	switch {
	case n.Extra:
	case n.Network:
		f.On(unix.SYS_SOCKET,
			confine.Argument(0),
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AF_INET, SkipTrue: 2},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AF_INET6, SkipTrue: 1},
			confine.Fail(unix.EPERM), confine.Allow)
	default:
		f.Refuse(unix.EPERM, unix.SYS_SOCKET, unix.SYS_CONNECT, unix.SYS_BIND)
	}
	return f
}

// requests is the part for ioctl(2). The kernel looks at the lower 32 bits of a request.
func requests() []bpf.Instruction {
	number := []bpf.Instruction{confine.Argument(1), bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: numberMask}}
	list := []bpf.Instruction{
		confine.Argument(1),
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: kindMask},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: terminals, SkipTrue: 3},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: links, SkipTrue: 1},
		confine.Allow, // of another kind, such as KVM's
		confine.Fail(unix.EPERM),
	}
	list = append(list, number...)
	for _, request := range []uint32{unix.TIOCSTI, unix.TIOCLINUX} { // which type into a terminal
		list = append(list, bpf.JumpIf{Cond: bpf.JumpEqual, Val: request & numberMask, SkipFalse: 1}, confine.Fail(unix.EPERM))
	}
	list = append(list, bpf.JumpIf{Cond: bpf.JumpLessThan, Val: firstTun, SkipFalse: 1}, confine.Allow)
	for _, request := range tapRequests {
		list = append(list, bpf.JumpIf{Cond: bpf.JumpEqual, Val: request & numberMask, SkipFalse: 1}, confine.Allow)
	}
	return append(list, confine.Fail(unix.EPERM))
}
