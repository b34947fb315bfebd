package qemu

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	goqmp "github.com/digitalocean/go-qemu/qmp"

	"github.com/qnet-vm/qnet/qemu/machine"
	"github.com/qnet-vm/qnet/qemu/qmp"
	"github.com/qnet-vm/qnet/qemu/sandbox"
	"github.com/qnet-vm/qnet/qemu/standstill"
)

// drainTime is how long the events of a QEMU that ended are waited for. They
// are there already, unless some other process holds the connection open.
const drainTime = time.Second

// VM is a running QEMU. All methods may be used concurrently.
type VM struct {
	proc    *process
	monitor *qmp.Monitor
	console net.Conn
	agents  agents
	guest   *standstill.Guest
	config  machine.Config
	noKVM   string   // set by Launched.Start
	gate    *os.File // closed when QEMU may go on

	running       atomic.Bool   // Cont was called
	guestShutdown atomic.Bool   // QEMU said so
	done          chan struct{} // closed when the process is gone and its events are read
}

func newVM(c machine.Config, proc *process, monitor *qmp.Monitor, console net.Conn, link agents) *VM {
	v := &VM{proc: proc, monitor: monitor, console: console, agents: link, config: c, done: make(chan struct{}), guest: standstill.New(monitor, disksOf(c))}
	events, _ := monitor.Events(context.Background()) // until the connection ends; has no error to give
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		v.watch(events)
	}()
	go func() {
		defer close(v.done)
		<-proc.done
		timer := time.NewTimer(drainTime)
		defer timer.Stop()
		select {
		case <-watched:
		case <-timer.C:
		}
		_ = monitor.Disconnect() // the process is gone
		link.close()
		<-watched
	}()
	return v
}

// watch notes why QEMU says it will end, and whether the guest panicked. This is for the
// exit status only: the end of a machine is the end of its process.
func (v *VM) watch(events <-chan goqmp.Event) {
	for e := range events {
		v.guest.Note(e)
		if guest, ok := e.Data["guest"].(bool); ok && guest && e.Event == "SHUTDOWN" {
			v.guestShutdown.Store(true)
		}
	}
}

// Watch follows the guest until QEMU has ended; see [standstill.Guest.Watch].
func (v *VM) Watch(ctx context.Context, tell func(standstill.Incident)) { v.guest.Watch(ctx, tell) }

// disksOf returns the config's disks for the words about them.
func disksOf(c machine.Config) []standstill.Disk {
	list := make([]standstill.Disk, len(c.Disks))
	for i, d := range c.Disks {
		if d.File != nil {
			list[i].File = d.File.Name()
		}
		list[i].Grows = d.Grows()
	}
	return list
}

// HaveWatched runs watch, unless it is nil, until QEMU begins to end, when ending is closed. answers
// returns an error if the monitor does not answer a question within its context: a QEMU that
// hangs. A guest that hangs does not show by that.
func (v *VM) HaveWatched(watch func(ending <-chan struct{}, answers func(context.Context) error)) {
	if watch == nil {
		return
	}
	go watch(v.Ending(), func(ctx context.Context) error {
		return v.monitor.Execute(ctx, "query-status", nil, nil)
	})
}

// Monitor returns the QMP connection. The VM disconnects it at the end.
func (v *VM) Monitor() *qmp.Monitor { return v.monitor }

// Guest returns what is known of the guest, and pauses it.
func (v *VM) Guest() *standstill.Guest { return v.guest }

// Console returns the serial console of the guest. It must be read, or the
// guest waits when it writes. It ends with the process; closing it is up to
// the caller.
func (v *VM) Console() net.Conn { return v.console }

// PID returns the process id.
func (v *VM) PID() int { return v.proc.cmd.Process.Pid }

// Accel returns the accelerator in use, "kvm" or "tcg".
func (v *VM) Accel() string { return v.config.Accel }

// Confined returns what confines QEMU.
func (v *VM) Confined() sandbox.Report { return v.proc.layers.Report() }

// Config returns what the VM was started with. Its files are the caller's, and may be closed.
func (v *VM) Config() machine.Config { return v.config }

// NoKVM says why the VM runs under TCG although Accel "auto" prefers KVM, "" if it does
// not or the config asked for TCG.
func (v *VM) NoKVM() string { return v.noKVM }

// Ending is closed when the process begins to end: QEMU holds a pipe open that it
// knows nothing of, and the kernel closes that before the taps, each of which takes
// it some 20 ms (a dying process's files go last first: task_work_run in
// kernel/task_work.c). The guest runs no more; Done follows.
func (v *VM) Ending() <-chan struct{} { return v.proc.ending }

// Done is closed when the process is gone.
func (v *VM) Done() <-chan struct{} { return v.done }

// Wait waits for the end of the process.
func (v *VM) Wait() ExitStatus {
	<-v.done
	s := v.proc.status()
	s.GuestShutdown, s.Panicked = v.guestShutdown.Load(), v.guest.Panicked()
	return s
}

// Cont lets the guest run.
func (v *VM) Cont(ctx context.Context) error {
	if err := v.monitor.Execute(ctx, "cont", nil, nil); err != nil {
		return fmt.Errorf("start guest: %w", err)
	}
	v.running.Store(true)
	return nil
}
