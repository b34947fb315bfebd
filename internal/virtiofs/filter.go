package virtiofs

import (
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/confine"
)

// setID are the set-user-ID and set-group-ID bits of a file's mode.
const setID = unix.S_ISUID | unix.S_ISGID

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

// filter returns the seccomp filter. virtiofsd adds its own, which allows what it needs and
// kills it for the rest; of two filters the stricter answer counts, and an error is stricter
// than leave (seccomp(2)). owner is the one user.
func filter(owner uint32) *confine.Filter {
	f := &confine.Filter{}
	f.Refuse(0, identity...)
	f.Refuse(unix.ENOSYS, slices.Concat(hidden, legacy)...)
	for _, m := range modes {
		f.On(m.number, confine.Argument(m.arg), bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: setID, SkipTrue: 1}, confine.Fail(unix.EPERM), confine.Allow)
	}
	for _, o := range owners {
		f.On(o.number, ownerOnly(owner, o.arg)...)
	}
	return f
}

// hidden are calls whose mode a filter cannot see, as it is in memory. virtiofsd does
// without: it uses openat(2) on a kernel without openat2.
var hidden = []uint32{unix.SYS_OPENAT2}

// ownerOnly lets a file be given to its owner, and to nobody else. -1 leaves user or group
// as it is.
func ownerOnly(owner, arg uint32) []bpf.Instruction {
	const asItIs = ^uint32(0)
	return []bpf.Instruction{
		confine.Argument(arg),
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: owner, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: asItIs, SkipFalse: 4},
		confine.Argument(arg + 1),
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: owner, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: asItIs, SkipFalse: 1},
		confine.Allow,
		confine.Fail(unix.EPERM),
	}
}
