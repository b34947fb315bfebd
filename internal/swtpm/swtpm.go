// Package swtpm runs swtpm, the TPM 2.0 of a VM.
//
// swtpm has no rights but to its state, a directory that it gets open: it needs no way to
// it, and, by Landlock, reaches no other file but programs and libraries (package jail). It
// talks to QEMU by a socket that both inherit, so nothing else can connect, and makes none.
// Its own seccomp filter is on. It ends with qnet, and qnet ends it after QEMU.
package swtpm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/confine"
	"github.com/qnet-vm/qnet/internal/jail"
	"github.com/qnet-vm/qnet/qemu/program"
	"github.com/qnet-vm/qnet/qemu/tail"
)

// quitTime is how long swtpm may take to end by SIGTERM.
const quitTime = 2 * time.Second

// settings are what swtpm's cryptographic library reads.
var settings = []string{"/etc/ssl", "/etc/pki", "/etc/crypto-policies"}

// Find returns the absolute path of swtpm: it is looked up in path, the value of $PATH,
// without its relative directories, and in /usr/bin. The error is a *program.Lack.
func Find(path string) (string, error) {
	if file, ok := jail.Find("swtpm", path); ok {
		return file, nil
	}
	return "", &program.Lack{
		What:   "tpm = true needs the program swtpm, which is not in PATH",
		Remedy: "install it: apt install swtpm (Fedora, Arch: swtpm); or leave tpm out of the profile",
	}
}

// Options say how to run swtpm.
type Options struct {
	Program    string              // see Find
	Credential *program.Credential // as whom; nil is the caller
	Log        io.Writer           // gets what swtpm writes; nil discards it
}

// TPM is a swtpm that runs, or has ended once Done is closed. Its methods may be called
// concurrently.
type TPM struct {
	cmd    *exec.Cmd
	state  string   // path of the directory
	socket *os.File // QEMU's
	words  *tail.Writer
	done   <-chan struct{}
}

// Start starts swtpm with the state in a directory. That must belong to the Credential; it
// may be open with O_PATH only. The process needs root's rights to start it for another
// user. The caller may close state afterwards.
func Start(state *os.File, o Options) (*TPM, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("start swtpm: make socketpair: %w", err)
	}
	control := os.NewFile(uintptr(fds[0]), "swtpm's socket")
	defer control.Close()
	t := &TPM{socket: os.NewFile(uintptr(fds[1]), "TPM"), state: state.Name(), words: &tail.Writer{Tee: o.Log}}
	t.cmd = exec.Command(o.Program, "socket", "--tpm2", "--ctrl", "type=unixio,clientfd=3", "--tpmstate", "dir=/proc/self/fd/4")
	t.cmd.ExtraFiles = []*os.File{control, state}
	t.cmd.Env, t.cmd.Dir = program.Environment(), "/"
	t.cmd.Stdout, t.cmd.Stderr = t.words, t.words
	t.cmd.WaitDelay = time.Second
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	if c := o.Credential; c != nil {
		t.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: c.UID, Gid: c.GID, Groups: c.Groups}
	}
	confined := jail.Command{Path: t.cmd.Path, Dirs: t.cmd.ExtraFiles[1:], Also: settings}
	if t.done, err = confine.Start(t.cmd, confined.Confine); err != nil {
		return nil, errors.Join(fmt.Errorf("start swtpm: %w", err), t.socket.Close())
	}
	return t, nil
}

// Socket returns QEMU's end of the connection. Close it once QEMU has it.
func (t *TPM) Socket() *os.File { return t.socket }

// Done is closed when swtpm has ended.
func (t *TPM) Done() <-chan struct{} { return t.done }

// PID returns the process id.
func (t *TPM) PID() int { return t.cmd.Process.Pid }

// Err says how swtpm failed, with its last words. It is nil while it runs, and where it ended
// as QEMU asked it to.
func (t *TPM) Err() error {
	select {
	case <-t.done:
		if t.cmd.ProcessState.Success() {
			return nil
		}
		return fmt.Errorf("swtpm, the VM's TPM, ended: %s%s", t.cmd.ProcessState, tail.Suffix(t.words.String()))
	default:
		return nil
	}
}

// dyingTime is how long swtpm may take to end after a QEMU that did not start.
const dyingTime = time.Second

// Explain adds to the error of a QEMU that did not start what swtpm has said, as a *StateError,
// if it has said anything: QEMU only knows that its TPM refused.
func (t *TPM) Explain(err error) error {
	select { // it may be just about to say why
	case <-t.done:
	case <-time.After(dyingTime):
	}
	words := t.words.String()
	if ended := t.Err(); ended == nil && words == "" {
		return err
	}
	return &StateError{State: t.state, Words: words, Err: err}
}

// StateError tells that a VM's TPM could not start.
type StateError struct {
	State string // path of the directory
	Words string // swtpm's, of several lines
	Err   error  // QEMU's
}

// Error returns QEMU's error and swtpm's words.
func (e *StateError) Error() string {
	return fmt.Sprintf("%v; swtpm, the VM's TPM, says%s", e.Err, tail.Suffix(e.Words))
}

// Unwrap returns QEMU's error.
func (e *StateError) Unwrap() error { return e.Err }

// Hint says what the user can do.
func (e *StateError) Hint() string {
	return fmt.Sprintf("its state is in %s: it must belong to the user that QEMU runs as; or remove it, and the next run makes a new TPM, without the keys that the guest sealed in it", e.State)
}

// Stop ends swtpm, and closes the socket. The guest's state is on disk after each command
// of the guest that changes it (SWTPM_NVRAM_StoreData).
func (t *TPM) Stop() error {
	_ = t.socket.Close() // may be closed already
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		_ = t.cmd.Process.Signal(sig) // no error matters but "already done"
		select {
		case <-t.done:
			return nil
		case <-time.After(quitTime):
		}
	}
	return fmt.Errorf("end swtpm: process %d does not end", t.PID())
}
