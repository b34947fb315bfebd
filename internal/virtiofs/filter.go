package virtiofs

import (
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

// setID are the set-user-ID and set-group-ID bits of a file's mode.
const setID = unix.S_ISUID | unix.S_ISGID

// audit is how seccomp calls the machine.
func audit() uint32 {
	if runtime.GOARCH == "arm64" {
		return unix.AUDIT_ARCH_AARCH64
	}
	return unix.AUDIT_ARCH_X86_64
}

// identity are the calls by which virtiofsd becomes the guest's user for a request. In its
// namespace there is one user: the call would fail for all others, and so would the guest's
// request. They do nothing and succeed. So every file belongs to the one user.
var identity = []uint32{
	unix.SYS_SETRESUID, unix.SYS_SETRESGID, unix.SYS_SETREUID, unix.SYS_SETREGID, unix.SYS_SETUID, unix.SYS_SETGID,
	unix.SYS_SETFSUID, unix.SYS_SETFSGID, unix.SYS_SETGROUPS,
}

// modes are the calls that give a file its mode, and which argument that is.
var modes = []struct {
	number, arg uint32
}{
	{unix.SYS_FCHMOD, 1}, {unix.SYS_FCHMODAT, 2}, {sysFchmodat2, 2}, {unix.SYS_MKNODAT, 2}, {unix.SYS_MKDIRAT, 2}, {unix.SYS_OPENAT, 3},
}

// sysFchmodat2 has this number on all machines (Linux 6.6).
const sysFchmodat2 = 452

// owners are the calls that change a file's owner, and which argument is the user; the next
// one is the group.
var owners = []struct{ number, arg uint32 }{{unix.SYS_FCHOWN, 1}, {unix.SYS_FCHOWNAT, 2}}

// assembler collects a filter.
type assembler []bpf.Instruction

func (a *assembler) add(list ...bpf.Instruction) { *a = append(*a, list...) }

// on runs the list for one system call. The list ends by a return.
func (a *assembler) on(number uint32, list ...bpf.Instruction) {
	a.add(bpf.LoadAbsolute{Off: offNumber, Size: 4}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: number, SkipFalse: uint8(len(list))})
	a.add(list...)
}

func argument(i uint32) bpf.Instruction { return bpf.LoadAbsolute{Off: offArgs + 8*i, Size: 4} }

func fail(errno unix.Errno) bpf.Instruction {
	return bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(errno)}
}

var allow = bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW}

// filter returns the seccomp filter. virtiofsd adds its own, which allows what it needs and
// kills it for the rest; of two filters the stricter answer counts, and an error is stricter
// than leave (seccomp(2)). owner is the one user.
func filter(owner uint32) []bpf.Instruction {
	var a assembler
	a.add(
		bpf.LoadAbsolute{Off: offArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: audit(), SkipTrue: 1}, bpf.RetConstant{Val: unix.SECCOMP_RET_KILL_PROCESS},
		bpf.LoadAbsolute{Off: offNumber, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: x32, SkipTrue: 1}, fail(unix.ENOSYS),
	)
	for _, number := range identity {
		a.on(number, fail(0))
	}
	for _, number := range slices.Concat(hidden, legacy) {
		a.on(number, fail(unix.ENOSYS))
	}
	for _, m := range modes {
		a.on(m.number, argument(m.arg), bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: setID, SkipTrue: 1}, fail(unix.EPERM), allow)
	}
	for _, o := range owners {
		a.on(o.number, ownerOnly(owner, o.arg)...)
	}
	a.add(allow)
	return a
}

// hidden are calls whose mode a filter cannot see, as it is in memory. virtiofsd does
// without: it uses openat(2) on a kernel without openat2.
var hidden = []uint32{unix.SYS_OPENAT2}

// ownerOnly lets a file be given to its owner, and to nobody else. -1 leaves user or group
// as it is.
func ownerOnly(owner, arg uint32) []bpf.Instruction {
	const asItIs = ^uint32(0)
	return []bpf.Instruction{
		argument(arg),
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: owner, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: asItIs, SkipFalse: 4},
		argument(arg + 1),
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: owner, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: asItIs, SkipFalse: 1},
		allow,
		fail(unix.EPERM),
	}
}

// install puts the filter upon the calling thread. It needs no_new_privs.
func install(list []bpf.Instruction) error {
	raw, err := bpf.Assemble(list)
	if err != nil {
		return err
	}
	code := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		code[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	if _, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program))); e != 0 {
		return e
	}
	runtime.KeepAlive(code)
	return nil
}
