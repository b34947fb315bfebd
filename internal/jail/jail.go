// Package jail runs a program on data from outside: it can use the files that it is given
// and no others, no network, and only so much memory, time and disk. It has no capability,
// but one for files where the caller says so (Command.AnyOwner), and can gain none. It ends
// with its caller, also one that is killed, unless it is to outlive it (Command.Outlives).
//
// The kernel enforces that by Landlock (landlock(7)), seccomp(2), prlimit(2) and
// PR_SET_NO_NEW_PRIVS. Where the kernel has no Landlock, the program can read the files
// that its user can read.
package jail

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/confine"
)

// Limits bound what the program uses; 0 is no limit.
type Limits struct {
	Memory   uint64        // bytes of address space
	CPU      time.Duration // of processor time
	FileSize uint64        // bytes that a file may grow to
}

// Command is a program to run.
type Command struct {
	Path        string   // absolute
	Args        []string // without the program's name
	Read, Write []*os.File
	Dirs        []*os.File // in which the program may make, change and remove files; not for Run, which opens none for it
	Also        []string   // further paths below which it may read; missing ones are no error
	// Credential is the user that the program runs as, nil for the process's own, which must
	// not be root. Another one takes root.
	Credential *syscall.Credential
	// AnyOwner lets the program, which is not root's, open its files also where they are
	// root's own and closed to others: it has CAP_DAC_OVERRIDE. Only Landlock keeps it from all
	// other files then; on a kernel without, it is not started.
	AnyOwner bool
	// Outlives lets the program go on to its end where its caller is killed: it would leave a
	// file half changed.
	Outlives bool
	Limits   Limits
	Stdin    io.Reader
	Stdout   io.Writer
	Stderr   io.Writer
}

// FD returns the path by which the program opens a file of Read, or behind those of Write, by
// its place in both lists together.
func FD(i int) string { return fmt.Sprintf("/proc/self/fd/%d", firstFD+i) }

const (
	firstFD  = 3
	lastWait = time.Second // for a grandchild that keeps an output open
)

var (
	errRoot     = errors.New("it is to run as root")
	errLandlock = errors.New("this kernel has no Landlock, without which it could open every file")
)

// environment is all that the program gets: others could make it load code.
var environment = []string{"PATH=/usr/bin:/bin", "LANG=C", "LC_ALL=C"}

// Find returns the path of a program in the directories of search, the value of PATH, or in
// /usr/bin. Those that are not absolute count for nothing.
func Find(name, search string) (path string, ok bool) {
	for _, dir := range append(filepath.SplitList(search), "/usr/bin") {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); filepath.IsAbs(dir) && err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, true
		}
	}
	return "", false
}

// Run runs the program to its end. When the context ends, it kills the program.
func Run(ctx context.Context, c Command) error {
	result := make(chan error, 1)
	go func() { result <- c.run(ctx) }()
	return <-result
}

// run starts the child and waits for its end on one thread. That thread must outlive the
// child, because the parent-death signal comes when it ends, and must not be used again,
// because it has given up its rights. Never unlocking it does both.
func (c Command) run(ctx context.Context) error {
	runtime.LockOSThread()
	if c.Credential != nil && int(c.Credential.Uid) == os.Geteuid() {
		c.Credential = nil // to set what is set takes root, too
	}
	if c.Credential == nil && os.Geteuid() == 0 || c.Credential != nil && c.Credential.Uid == 0 {
		return fmt.Errorf("confine %s: %w", c.Path, errRoot)
	}
	if err := c.Confine(); err != nil {
		return fmt.Errorf("confine %s: %w", c.Path, err)
	}
	cmd := exec.CommandContext(ctx, c.Path, c.Args...)
	cmd.Env, cmd.Dir, cmd.WaitDelay = environment, "/", lastWait
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, c.Stderr
	cmd.ExtraFiles = append(append([]*os.File{}, c.Read...), c.Write...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true, Credential: c.Credential}
	if c.Outlives {
		cmd.SysProcAttr.Pdeathsig = 0
	}
	if c.AnyOwner {
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_DAC_OVERRIDE}
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err := c.limit(cmd.Process.Pid)
	if err != nil {
		_ = cmd.Process.Kill() // no error matters but "already done"
	}
	waitErr := cmd.Wait()
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	return waitErr
}

// Confine takes rights from the calling thread, and so from the children that it starts: all
// that Run takes, for a caller that starts the program by itself. The thread must be locked
// and never be used again (package confine).
func (c Command) Confine() error {
	var keep uint64
	filter := calls()
	if c.AnyOwner {
		if confine.Landlock() == 0 {
			return errLandlock
		}
		keep = 1 << unix.CAP_DAC_OVERRIDE
		filter.Refuse(unix.EPERM, unix.SYS_TRUNCATE) // by a path, which Landlock forbids from version 3 on only
	}
	if err := confine.NoNewRights(keep); err != nil {
		return err
	}
	return errors.Join(confine.Files(c.rules(), false), filter.Install())
}

// limit bounds the child.
func (c Command) limit(pid int) error {
	var as func(func() error) error
	if c.Credential != nil {
		as = (&asuser.User{UID: c.Credential.Uid, GID: c.Credential.Gid, Groups: c.Credential.Groups}).Do
	}
	return c.Limits.bounds().Set(pid, as)
}

func (l Limits) bounds() confine.Bounds {
	b := confine.Bounds{unix.RLIMIT_AS: l.Memory, unix.RLIMIT_CPU: uint64(l.CPU / time.Second), unix.RLIMIT_FSIZE: l.FileSize}
	maps.DeleteFunc(b, func(_ int, most uint64) bool { return most == 0 })
	return b
}
