package clerk

import (
	"fmt"
	"os"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/confine"
)

// socketKind masks the flags in the type of socket(2).
const socketKind = 0xf

// maxFiles is how many files a clerk may have open: 256 questions to name servers, 64
// connections of guests, and its own.
const maxFiles = 1024

// giveUp takes from the whole process what a clerk does not need, before it reads a packet.
func giveUp() error {
	for resource, most := range map[int]uint64{unix.RLIMIT_CORE: 0, unix.RLIMIT_NOFILE: maxFiles, unix.RLIMIT_FSIZE: 0} {
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: most, Max: most}); err != nil {
			return fmt.Errorf("limit the clerk: %w", err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("confine the clerk: %w", err)
	}
	return calls().InstallForAll()
}

// calls is the filter of a clerk.
func calls() *confine.Filter {
	f := &confine.Filter{}
	f.Refuse(unix.EPERM, confine.Intrusive...)
	f.Refuse(unix.EPERM, unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_LISTEN,
		unix.SYS_TKILL, unix.SYS_RT_SIGQUEUEINFO, unix.SYS_RT_TGSIGQUEUEINFO, unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_SEND_SIGNAL)
	f.Refuse(unix.ENOSYS, unix.SYS_CLONE3)                                                    // its flags are in memory; the C library then uses clone
	f.On(unix.SYS_CLONE, among(confine.Argument(0), unix.CLONE_THREAD, unix.CLONE_THREAD)...) // threads only
	for _, number := range []uint32{unix.SYS_KILL, unix.SYS_TGKILL, unix.SYS_PRLIMIT64} {
		f.On(number, among(confine.Argument(0), ^uint32(0), 0, uint32(os.Getpid()))...) // its own process only
	}
	f.On(unix.SYS_SOCKET, among(confine.Argument(0), ^uint32(0), unix.AF_INET, unix.AF_INET6)...)
	f.On(unix.SYS_SOCKET, among(confine.Argument(1), socketKind, unix.SOCK_STREAM, unix.SOCK_DGRAM)...)
	return f
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
