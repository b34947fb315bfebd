package qemu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/qemu/machine"
	"github.com/qnet-vm/qnet/qemu/program"
	"github.com/qnet-vm/qnet/qemu/qmp"
	"github.com/qnet-vm/qnet/qemu/sandbox"
	"github.com/qnet-vm/qnet/qemu/tail"
)

const (
	// defaultStartTimeout is generous: a busy host with TCG needs seconds.
	defaultStartTimeout = 30 * time.Second
	// dyingTime is how long a QEMU that closed its QMP connection may take to
	// end before it counts as hanging.
	dyingTime = 3 * time.Second
)

// StartOptions says how to run QEMU; the zero value is fine.
type StartOptions struct {
	Credential   *Credential   // nil runs QEMU as the caller
	Stderr       io.Writer     // gets all that QEMU writes, raw; must not block for long
	Warn         func(string)  // gets one sentence per warning
	StartTimeout time.Duration // 0 is 30 s
	Sandbox      sandbox.Mode  // "" is auto
	// Restore loads the guest into a machine that is Incoming, before it goes on. nil boots.
	Restore func(context.Context, *qmp.Monitor) error

	kvm string // "" is /dev/kvm; tests set it
}

func (o StartOptions) warn(format string, args ...any) {
	if o.Warn != nil {
		o.Warn(fmt.Sprintf(format, args...))
	}
}

// credential returns the user that QEMU will be, and, if it is another one than the
// caller, the credential to set.
func (o StartOptions) credential() (is, set *Credential, err error) {
	is, err = program.Self()
	if err != nil || o.Credential == nil {
		return is, nil, err
	}
	if is.UID != 0 && is.UID == o.Credential.UID && is.GID == o.Credential.GID {
		return is, nil, nil // setting what is set already takes root too
	}
	return o.Credential, o.Credential, o.Credential.Check()
}

// begin opens the gate and checks over QMP that QEMU, which keeps the guest paused,
// built the machine that was asked for. With an error, the process is gone.
func (v *VM) begin(ctx context.Context, c machine.Config) error {
	err := v.proc.limit()
	v.gate.Close()
	if err == nil {
		err = v.handshake(ctx, c)
	}
	if err == nil {
		return nil
	}
	err = v.abandon(ctx, c.Binary, err)
	var died *ExitError
	if errors.As(err, &died) {
		// Another start may have taken an image since it was checked: that says more.
		err = cmp.Or(c.InUse(), err)
	}
	return fmt.Errorf("start QEMU: %w", err)
}

// need is what the machine needs of the host besides its files.
func (o StartOptions) need(c machine.Config) sandbox.Need {
	n := sandbox.Need{Mode: o.Sandbox, Binary: c.Binary, Extra: len(c.Extra) > 0}
	n.Network = slices.ContainsFunc(c.NICs, func(n machine.NIC) bool { return n.User })
	for _, f := range []*os.File{c.Kernel, c.Initrd} {
		if f != nil {
			n.Files = append(n.Files, f)
		}
	}
	if c.Accel == machine.AccelKVM {
		n.KVM = cmp.Or(o.kvm, defaultKVM)
	}
	return n
}

// Confinement returns what would confine the QEMU of such a start. It starts nothing. The errors
// are those of Start about its user and about a layer that the sandbox's mode requires.
func Confinement(c machine.Config, o StartOptions) (sandbox.Report, error) {
	is, _, err := o.credential()
	if err != nil {
		return sandbox.Report{}, err
	}
	layers, err := sandbox.Decide(o.need(c), is.UID)
	if err != nil {
		return sandbox.Report{}, err
	}
	return layers.Report(), nil
}

// launchVM prepares the files and starts the process.
func launchVM(c machine.Config, o StartOptions) (vm *VM, err error) {
	is, set, err := o.credential()
	if err != nil {
		return nil, err
	}
	p, err := machine.Prepare(c, is, func(w string) { o.warn("%s", w) })
	defer func() { err = errors.Join(err, p.Close()) }()
	if err != nil {
		return nil, err
	}
	layers, err := sandbox.Decide(o.need(p.Config), is.UID)
	if err != nil {
		return nil, err
	}
	monitor, monitorFile, err := socketpair("qmp")
	if err != nil {
		return nil, err
	}
	p.Keep(monitorFile)
	console, consoleFile, err := socketpair("console")
	if err != nil {
		return nil, errors.Join(err, monitor.Close())
	}
	p.Keep(consoleFile)
	link, err := giveAgents(p)
	defer func() {
		if err != nil {
			link.close()
		}
	}()
	if err != nil {
		return nil, errors.Join(err, monitor.Close(), console.Close())
	}
	spec, err := machine.Command(p.Config, monitorFile, consoleFile)
	if err != nil {
		return nil, errors.Join(err, monitor.Close(), console.Close())
	}
	theirs, gate, err := os.Pipe()
	if err == nil {
		err = p.Keep(theirs).Chmod(0o444) // QEMU, another user, opens it by its path
	}
	if err != nil {
		return nil, errors.Join(err, monitor.Close(), console.Close())
	}
	proc, err := launch(c.Binary, spec.Behind(theirs), set, layers, o.Stderr)
	if err != nil {
		err = program.StartError(c.Binary, is.UID, err)
		return nil, errors.Join(err, monitor.Close(), console.Close(), gate.Close())
	}
	vm = newVM(c, proc, qmp.New(monitor), console, link)
	vm.gate = gate
	return vm, nil
}

// socketpair returns a connection and, for the child, its other end.
func socketpair(name string) (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socketpair for %s: %w", name, err)
	}
	theirs := os.NewFile(uintptr(fds[1]), name)
	ours := os.NewFile(uintptr(fds[0]), name)
	conn, err := net.FileConn(ours)
	if err = errors.Join(err, ours.Close()); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make connection for %s: %w", name, err), theirs.Close())
	}
	return conn, theirs, nil
}

// handshake connects to QMP and compares the machine with the config.
func (v *VM) handshake(ctx context.Context, c machine.Config) error {
	if err := v.monitor.ConnectContext(ctx); err != nil {
		return err
	}
	if err := program.Unbootable(v.proc.stderr.String()); err != nil {
		return err
	}
	got := v.monitor.Version().QEMU
	if err := (program.Version{Major: got.Major, Minor: got.Minor, Micro: got.Micro}).Check(); err != nil {
		return err
	}
	for i, n := range c.NICs {
		var mac string
		args := map[string]string{"path": "/machine/peripheral/" + machine.NICID(i), "property": "mac"}
		if err := v.monitor.Execute(ctx, "qom-get", args, &mac); err != nil {
			return fmt.Errorf("check NIC %d: %w", i, err)
		}
		if mac != n.MAC.String() {
			return fmt.Errorf("check NIC %d: got address %q, want %s", i, mac, n.MAC)
		}
	}
	return nil
}

// abandon ends a QEMU that did not start and returns the reason that is worth
// the most to the user.
func (v *VM) abandon(ctx context.Context, binary string, err error) error {
	err = v.explain(err)
	greeted := v.monitor.Version().QEMU.Major != 0
	_ = v.proc.cmd.Process.Kill() // no error matters but "already done"
	status := v.Wait()
	_ = v.console.Close() // the caller gets no VM to read it from
	var died *ExitError
	if !errors.As(err, &died) {
		return fmt.Errorf("%w%s", err, tail.Suffix(status.Stderr))
	}
	if !greeted {
		// An old QEMU trips over our options first; ask it for its version.
		if _, tooOld := program.Probe(context.WithoutCancel(ctx), binary); errors.Is(tooOld, program.ErrTooOld) {
			return tooOld
		}
	}
	return program.Explain(err, status.Stderr)
}

// explain returns how the process ended if that is why the QMP connection did,
// and err if not.
func (v *VM) explain(err error) error {
	if errors.Is(err, qmp.ErrClosed) {
		v.dying()
	}
	if !v.proc.exited() {
		return err
	}
	return &ExitError{Status: v.Wait()}
}

// dying waits a moment for a process that has closed its QMP connection.
func (v *VM) dying() {
	timer := time.NewTimer(dyingTime)
	defer timer.Stop()
	select {
	case <-v.proc.done:
	case <-timer.C:
	}
}
