package virtiofs

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/confine"
	"github.com/qnet-vm/qnet/qemu/program"
	"github.com/qnet-vm/qnet/qemu/tail"
)

// Owner is the user id, and the group id, that the guest sees as the owner of all that is
// the caller's in a folder: those of the first user that distributions make.
const Owner = 1000

// Descriptors of the stage and of virtiofsd.
const (
	listenFD = 3
	reportFD = 4
)

// startTime is how long the stage may take: it does a few system calls, and asks virtiofsd
// for its version.
const startTime = 30 * time.Second

// Share is a folder for the guest.
type Share struct {
	Folder   *os.File // the directory, opened with the user's rights
	ReadOnly bool
	// Keep are files that the guest must not change, also where it may write, as paths
	// relative to the folder: a profile, which decides about the next run.
	Keep []string
}

// Options say how virtiofsd is run.
type Options struct {
	Exe     []string     // argv that runs Main
	Program string       // see Find
	User    *asuser.User // the user behind sudo; nil is the caller
	Dir     string       // where a socket can be made for a moment
	Log     io.Writer    // gets what virtiofsd writes; nil discards it
}

// Daemon is a virtiofsd that runs, or has ended once Done is closed. Its methods may be
// called concurrently.
type Daemon struct {
	cmd    *exec.Cmd
	folder string
	socket *os.File
	words  *tail.Writer
	done   <-chan struct{}
}

// Start starts virtiofsd for the folder. The process must have root's rights to start it for
// another user. The error is a *program.Lack where the host does not allow it.
func Start(s Share, o Options) (*Daemon, error) {
	d, err := start(s, o)
	if err != nil {
		return nil, fmt.Errorf("share folder %q: %w", s.Folder.Name(), err)
	}
	return d, nil
}

func start(s Share, o Options) (*Daemon, error) {
	listening, connected, err := socket(o.Dir)
	if err != nil {
		return nil, err
	}
	defer listening.Close()
	report, theirs, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, connected.Close())
	}
	defer report.Close()
	d := &Daemon{folder: s.Folder.Name(), socket: connected, words: &tail.Writer{Tee: o.Log}}
	d.cmd = command(s, o, listening, theirs)
	d.cmd.Stdout, d.cmd.Stderr = d.words, d.words
	d.done, err = confine.Start(d.cmd, func() error { return prepare(s.Folder, o.User) })
	theirs.Close()
	if err != nil {
		return nil, errors.Join(refused(err), connected.Close())
	}
	if err := d.await(report); err != nil {
		return nil, errors.Join(err, d.Stop())
	}
	return d, nil
}

// command returns the stage's command. It starts in the namespaces.
func command(s Share, o Options, files ...*os.File) *exec.Cmd {
	order, _ := json.Marshal(order{Program: o.Program, ReadOnly: s.ReadOnly, Keep: s.Keep}) // has nothing that JSON has not
	argv := append(append([]string{}, o.Exe...), string(order))
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = program.Environment()
	cmd.ExtraFiles = files
	cmd.WaitDelay = time.Second
	uid, gid := os.Geteuid(), os.Getegid()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     true,
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
	}
	if o.User != nil {
		uid, gid = int(o.User.UID), int(o.User.GID)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: Owner, Gid: Owner, NoSetGroups: true}
	}
	cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: Owner, HostID: uid, Size: 1}}
	cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: Owner, HostID: gid, Size: 1}}
	for _, c := range staged {
		cmd.SysProcAttr.AmbientCaps = append(cmd.SysProcAttr.AmbientCaps, uintptr(c))
	}
	return cmd
}

// prepare makes the folder the calling thread's working directory, and the thread the user's,
// who gains no rights.
func prepare(folder *os.File, user *asuser.User) error {
	err := errors.Join(enter(folder), join(user), confine.Deafen(), unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	if err != nil {
		return fmt.Errorf("confine virtiofsd: %w", err)
	}
	return nil
}

// enter makes the folder the working directory of the calling thread alone. In the mount
// namespace of a child the working directory is still this folder, whatever its path leads
// to by then (copy_mnt_ns in fs/namespace.c).
func enter(folder *os.File) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("leave the shared working directory: %w", err)
	}
	if err := unix.Fchdir(int(folder.Fd())); err != nil {
		return fmt.Errorf("enter the folder: %w", err)
	}
	return nil
}

// join gives the calling thread the user's groups. In a user namespace with one group they
// stay what they are: a file's group may be the reason why the user can use it.
func join(user *asuser.User) error {
	if user == nil {
		return nil
	}
	var first unsafe.Pointer
	if len(user.Groups) > 0 {
		first = unsafe.Pointer(&user.Groups[0])
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(user.Groups)), uintptr(first), 0); e != 0 {
		return fmt.Errorf("set groups: %w", e)
	}
	return nil
}

// await waits until the stage has become virtiofsd: the pipe is closed by that. Until then
// it brings what failed.
func (d *Daemon) await(report *os.File) error {
	if err := report.SetReadDeadline(time.Now().Add(startTime)); err != nil {
		return err
	}
	var f failure
	err := json.NewDecoder(report).Decode(&f)
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return fmt.Errorf("wait for virtiofsd: %w", err)
	}
	return refused(&f)
}

// Socket returns QEMU's end of the connection. Close it once QEMU has it.
func (d *Daemon) Socket() *os.File { return d.socket }

// Done is closed when virtiofsd has ended.
func (d *Daemon) Done() <-chan struct{} { return d.done }

// PID returns the process id on the host.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Err says how virtiofsd ended, with its last words. It is nil while it runs.
func (d *Daemon) Err() error {
	select {
	case <-d.done:
	default:
		return nil
	}
	return fmt.Errorf("virtiofsd of folder %q ended: %s%s", d.folder, cmp.Or(d.cmd.ProcessState.String(), "no state"), tail.Suffix(d.words.String()))
}

// Stop ends virtiofsd and closes the socket. What the guest wrote is in the host's files
// already: virtiofsd keeps nothing back.
func (d *Daemon) Stop() error {
	_ = d.socket.Close()     // may be closed already
	_ = d.cmd.Process.Kill() // no error matters but "already done"
	timer := time.NewTimer(startTime)
	defer timer.Stop()
	select {
	case <-d.done:
		return nil
	case <-timer.C:
		return fmt.Errorf("end virtiofsd of folder %q: process %d does not end", d.folder, d.PID())
	}
}
