package jail

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forbidden are calls that a program has no use for which only computes on files: they make
// connections, look into other processes, change namespaces and mounts, or have been ways
// into the kernel. They fail with EPERM.
var forbidden = []uint32{
	unix.SYS_SOCKET, unix.SYS_CONNECT, unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_ACCEPT, unix.SYS_ACCEPT4,
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP,
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_UNSHARE, unix.SYS_SETNS,
	unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT,
	unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE,
	unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_SYSLOG,
}

// Offsets in struct seccomp_data (linux/seccomp.h), and the first number of the x32 calls.
const (
	numberOffset       = 0
	architectureOffset = 4
	x32                = 0x40000000
)

// filter is the BPF program: another architecture's calls kill the process, the forbidden
// ones fail, the others pass.
func filter() []unix.SockFilter {
	const (
		loadWord = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal    = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		atLeast  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		result   = unix.BPF_RET | unix.BPF_K
		refuse   = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	)
	p := []unix.SockFilter{
		{Code: loadWord, K: architectureOffset},
		{Code: equal, K: unix.AUDIT_ARCH_X86_64, Jt: 1},
		{Code: result, K: unix.SECCOMP_RET_KILL_PROCESS},
		{Code: loadWord, K: numberOffset},
		{Code: atLeast, K: x32, Jf: 1},
		{Code: result, K: refuse},
	}
	for _, call := range forbidden {
		p = append(p, unix.SockFilter{Code: equal, K: call, Jf: 1}, unix.SockFilter{Code: result, K: refuse})
	}
	return append(p, unix.SockFilter{Code: result, K: unix.SECCOMP_RET_ALLOW})
}

// forbidCalls installs the filter for the thread and its children. PR_SET_NO_NEW_PRIVS must
// be set.
func forbidCalls() error {
	p := filter()
	program := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		return fmt.Errorf("install seccomp filter: %w", err)
	}
	return nil
}
