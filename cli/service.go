package cli

import (
	"io"

	"github.com/qnet-vm/qnet/internal/service"
	"github.com/qnet-vm/qnet/internal/supervisor"
)

// underManager has a run tell the service manager that started it how it does, if one did.
func (a *app) underManager(o *supervisor.Options) {
	socket := service.NewSocket(a.Getenv)
	if socket == nil {
		return
	}
	o.Watch = socket.Watch
	o.Progress, o.Rung = busy(socket, o.Progress), rungs(socket, o.Rung)
	started := o.Started
	o.Started = func() {
		if err := socket.Ready(); err != nil {
			a.Talk("warning: %v", err)
		}
		started()
	}
}

// busy tells the manager what a start waits for, too.
func busy(socket *service.Socket, progress func(string)) func(string) {
	over := func() {}
	return func(what string) {
		over()
		over = func() {}
		if what != "" {
			over = socket.Busy("waiting for " + what)
		}
		progress(what)
	}
}

// rungs tells the manager how far an end has come, too.
func rungs(socket *service.Socket, tell func(string)) func(string) {
	over := func() {}
	return func(rung string) {
		over()
		over = socket.Busy("waiting for "+rungWait(rung, guestTime), service.Stopping)
		tell(rung)
	}
}

// asService leaves the console to its log: a guest could flood the journal. Each line for the user
// has its priority there.
func (a *app) asService(o *supervisor.Options) {
	a.Stderr = service.Journal(a.Stderr, a.Getenv)
	o.Stdout = io.Discard
}
