package confine

import (
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data (linux/seccomp.h). Of the arguments the lower half is
// looked at, which comes first on the machines that audit knows below.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

// x32 marks the numbers of the x32 ABI of x86-64, by which each call has a second number.
const x32 = 0x40000000

// audit is how seccomp calls the machine.
func audit() uint32 {
	if runtime.GOARCH == "arm64" {
		return unix.AUDIT_ARCH_AARCH64
	}
	return unix.AUDIT_ARCH_X86_64
}

// Filter is a filter of system calls (seccomp(2)) that lets pass what none of its parts
// ends. A call in another architecture's way kills the process; one of the x32 ABI fails
// with ENOSYS.
type Filter struct {
	list []bpf.Instruction
}

// Allow ends a part: the call passes.
var Allow = bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW}

// Fail ends a part: the call is not made and fails with the error; with 0, it only seems to
// have been made.
func Fail(errno unix.Errno) bpf.Instruction {
	return bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(errno)}
}

// Argument loads the lower 32 bits of the call's i-th argument, from 0.
func Argument(i uint32) bpf.Instruction { return bpf.LoadAbsolute{Off: offArgs + 8*i, Size: 4} }

// Upper loads the upper 32 bits of the call's i-th argument.
func Upper(i uint32) bpf.Instruction { return bpf.LoadAbsolute{Off: offArgs + 8*i + 4, Size: 4} }

// On adds a part for one system call, of at most 255 instructions. It ends by Allow or Fail,
// or falls through to the next part.
func (f *Filter) On(number uint32, list ...bpf.Instruction) {
	f.list = append(f.list, bpf.LoadAbsolute{Off: offNumber, Size: 4}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: number, SkipFalse: uint8(len(list))})
	f.list = append(f.list, list...)
}

// Refuse adds parts that make the system calls fail.
func (f *Filter) Refuse(errno unix.Errno, numbers ...uint32) {
	for _, number := range numbers {
		f.On(number, Fail(errno))
	}
}

// whole returns the filter with its beginning and end.
func (f *Filter) whole() []bpf.Instruction {
	return slices.Concat([]bpf.Instruction{
		bpf.LoadAbsolute{Off: offArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: audit(), SkipTrue: 1},
		bpf.RetConstant{Val: unix.SECCOMP_RET_KILL_PROCESS},
		bpf.LoadAbsolute{Off: offNumber, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: x32, SkipTrue: 1},
		Fail(unix.ENOSYS),
	}, f.list, []bpf.Instruction{Allow})
}

// Install puts the filter upon the calling thread and its children. It needs
// PR_SET_NO_NEW_PRIVS. Of several filters the strictest answer counts.
func (f *Filter) Install() error { return f.install(0) }

// InstallForAll is Install for all threads of the process.
func (f *Filter) InstallForAll() error { return f.install(unix.SECCOMP_FILTER_FLAG_TSYNC) }

func (f *Filter) install(flags uintptr) error {
	raw, err := bpf.Assemble(f.whole())
	if err != nil {
		return fmt.Errorf("assemble seccomp filter: %w", err)
	}
	code := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		code[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	thread, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&program)))
	if e != 0 {
		return fmt.Errorf("install seccomp filter: %w", e)
	}
	if thread != 0 {
		return fmt.Errorf("install seccomp filter: thread %d has another one", thread)
	}
	runtime.KeepAlive(code)
	return nil
}

// Intrusive are calls that a program has no use for which computes on what it was given: they
// look into other processes, change namespaces and mounts, or have been ways into the kernel.
var Intrusive = []uint32{
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP,
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_UNSHARE, unix.SYS_SETNS,
	unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT,
	unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE,
	unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_SYSLOG,
}
