package qemu

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/confine"
	"github.com/qnet-vm/qnet/qemu/machine"
	"github.com/qnet-vm/qnet/qemu/program"
	"github.com/qnet-vm/qnet/qemu/sandbox"
	"github.com/qnet-vm/qnet/qemu/tail"
)

// Credential is the user that QEMU runs as.
type Credential = program.Credential

// process is a child that runs, or has ended once done is closed.
type process struct {
	cmd    *exec.Cmd
	spec   machine.Spec
	layers *sandbox.Layers
	stderr *tail.Writer
	ending chan struct{} // see VM.Ending
	done   <-chan struct{}
}

// launch starts binary with no rights beyond its files. Setting user and
// groups takes root; a nil cred keeps the caller's. Where the kernel refuses the layers'
// namespaces, it starts without them, if they are not required.
func launch(binary string, spec machine.Spec, cred *Credential, layers *sandbox.Layers, stderr io.Writer) (*process, error) {
	p, err := launchIn(binary, spec, cred, layers, stderr)
	if layers.Cloneflags() == 0 || !namespacesRefused(err) {
		return p, err
	}
	if err := layers.WithoutNamespaces(err); err != nil {
		return nil, err
	}
	return launchIn(binary, spec, cred, layers, stderr)
}

// namespacesRefused reports whether the error of a start can come of the child's namespaces:
// a container forbids them, or there are as many as there may be (clone(2)).
func namespacesRefused(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EUSERS) || errors.Is(err, unix.EINVAL)
}

func launchIn(binary string, spec machine.Spec, cred *Credential, layers *sandbox.Layers, stderr io.Writer) (*process, error) {
	p := &process{spec: spec, layers: layers, stderr: &tail.Writer{Tee: stderr}, ending: make(chan struct{})}
	life, theirs, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	defer theirs.Close()
	p.cmd = exec.Command(binary, spec.Args...)
	p.cmd.Env = program.Environment()
	p.cmd.Dir = "/"
	p.cmd.ExtraFiles = append(slices.Clone(spec.Files), theirs)
	p.cmd.Stdout, p.cmd.Stderr = p.stderr, p.stderr
	p.cmd.WaitDelay = time.Second // for a grandchild that keeps stderr open
	p.cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     true, // a Ctrl-C on the terminal is for qnet alone
		Cloneflags: layers.Cloneflags(),
	}
	if cred != nil {
		p.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: cred.UID, Gid: cred.GID, Groups: cred.Groups}
	}
	if p.done, err = confine.Start(p.cmd, p.giveUp); err != nil {
		life.Close()
		return nil, err
	}
	go p.follow(life)
	return p, nil
}

// follow closes ending when no process holds the other end of the pipe any more.
func (p *process) follow(life *os.File) {
	life.Read(make([]byte, 1)) //nolint:errcheck // nothing is ever written
	life.Close()
	close(p.ending)
}

// giveUp takes rights and signals from the calling thread, and so from QEMU.
func (p *process) giveUp() error {
	if err := errors.Join(confine.NoNewRights(0), confine.Deafen(), closeOnExec(), p.layers.Confine()); err != nil {
		return fmt.Errorf("confine QEMU: %w", err)
	}
	return nil
}

// limit bounds the process. Behind sudo the process's real user is QEMU's, and that counts. The
// caller may be within asuser.AsRoot.
func (p *process) limit() error {
	var as func(func() error) error
	if c := p.cmd.SysProcAttr.Credential; c != nil {
		as = (&asuser.User{UID: c.Uid, GID: c.Gid, Groups: c.Groups}).Within
	}
	return p.layers.Bounds().Set(p.cmd.Process.Pid, as)
}

// exited reports whether the child has ended.
func (p *process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// status returns how the child ended; done must be closed.
func (p *process) status() ExitStatus {
	s := ExitStatus{Stderr: p.spec.Readable(p.stderr.String())}
	if w, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		s.Signal = w.Signal()
	} else {
		s.Code = p.cmd.ProcessState.ExitCode()
	}
	return s
}
