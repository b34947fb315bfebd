package clerk

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/confine"
)

// socketKind masks the flags in the type of socket(2).
const socketKind = 0xf

// dup2 is the number of dup2(2) on x86-64. Other machines have no such call.
const dup2 = 33

// maxFiles is how many files a clerk may have open: 256 questions to name servers, 64
// connections of guests, and its own.
const maxFiles = 1024

// giveUp takes from the whole process what a clerk does not need, before it reads a packet. The
// descriptors are those by which it answers guests over UDP.
func giveUp(answers ...int) error {
	for resource, most := range map[int]uint64{unix.RLIMIT_CORE: 0, unix.RLIMIT_NOFILE: maxFiles, unix.RLIMIT_FSIZE: 0} {
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: most, Max: most}); err != nil {
			return fmt.Errorf("limit the clerk: %w", err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("confine the clerk: %w", err)
	}
	return calls(answers).InstallForAll()
}

// calls is the filter of a clerk.
func calls(answers []int) *confine.Filter {
	f := &confine.Filter{}
	f.Refuse(unix.EPERM, confine.Intrusive...)
	f.Refuse(unix.EPERM, unix.SYS_EXECVE, unix.SYS_EXECVEAT,
		unix.SYS_TKILL, unix.SYS_RT_SIGQUEUEINFO, unix.SYS_RT_TGSIGQUEUEINFO, unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_SEND_SIGNAL)
	f.Refuse(unix.ENOSYS, unix.SYS_CLONE3)                                                    // its flags are in memory; the C library then uses clone
	f.On(unix.SYS_CLONE, among(confine.Argument(0), unix.CLONE_THREAD, unix.CLONE_THREAD)...) // threads only
	for _, number := range []uint32{unix.SYS_KILL, unix.SYS_TGKILL, unix.SYS_PRLIMIT64} {
		f.On(number, among(confine.Argument(0), ^uint32(0), 0, uint32(os.Getpid()))...) // its own process only
	}
	narrowSockets(f, answers)
	return f
}

// narrowSockets leaves a clerk sockets that connect over UDP and TCP. Of those that it was given
// the packet socket stays on its link, and without the host's packets: bind(2), an address
// given to sendto(2), or options of packet(7) would lead it to any other link.
//
// Only the descriptors by which guests are answered send to an address: their sockets are bound to
// the network's bridge. No other socket can come to those numbers, because nothing closes them.
func narrowSockets(f *confine.Filter, answers []int) {
	f.On(unix.SYS_SOCKET, among(confine.Argument(0), ^uint32(0), unix.AF_INET, unix.AF_INET6)...)
	f.On(unix.SYS_SOCKET, among(confine.Argument(1), socketKind, unix.SOCK_STREAM, unix.SOCK_DGRAM)...)
	f.On(unix.SYS_SOCKET, among(confine.Argument(2), ^uint32(0), 0)...) // Landlock's rules of TCP miss multipath TCP
	f.Refuse(unix.EPERM, unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_SENDMSG, unix.SYS_SENDMMSG)
	f.On(unix.SYS_SETSOCKOPT, confine.Argument(1), bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.SOL_PACKET, SkipTrue: 1}, confine.Fail(unix.EPERM))
	f.On(unix.SYS_SENDTO, among(confine.Argument(3), unix.MSG_FASTOPEN, 0)...) // connects, and Landlock does not see it
	send := []bpf.Instruction{confine.Argument(0)}
	for i, fd := range answers {
		send = append(send, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(fd), SkipTrue: uint8(len(answers) - i + 4)})
		f.On(unix.SYS_CLOSE, confine.Argument(0), bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(fd), SkipTrue: 1}, confine.Fail(unix.EPERM))
	}
	f.On(unix.SYS_SENDTO, append(send,
		confine.Argument(4), bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 2},
		confine.Upper(4), bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 1},
		confine.Fail(unix.EPERM))...)
	f.Refuse(unix.EPERM, unix.SYS_DUP3, unix.SYS_CLOSE_RANGE)
	if runtime.GOARCH == "amd64" {
		f.Refuse(unix.EPERM, dup2)
	}
}

// among is a part that fails unless the value, within the mask, is one of a list. Else it falls
// through to the next part.
func among(value bpf.Instruction, mask uint32, list ...uint32) []bpf.Instruction {
	part := []bpf.Instruction{value, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask}}
	for i, v := range list {
		part = append(part, bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipTrue: uint8(len(list) - i)})
	}
	return append(part, confine.Fail(unix.EPERM))
}
