package keeper

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/sockets"
	"github.com/qnet-vm/qnet/netsetup/forward"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/profiles/ports"
)

// ForwardError says which forward of a NIC the keeper could not make. It wraps host.ErrRefused
// where the host or the network forbids the forward, and unix.EADDRINUSE where its port is taken.
type ForwardError struct {
	NIC     int // index in the profile
	Forward Forward
	Err     error // the cause, with what to do about it
}

func (e *ForwardError) Error() string { return fmt.Sprintf("forward %s: %v", e.Forward, e.Err) }

func (e *ForwardError) Unwrap() error { return e.Err }

// explain gives an error of the keeper its type back, and says who has a port that is taken. The
// keeper may not look into other processes.
func (o Options) explain(ctx context.Context, w *WireError) error {
	if w.Forward == nil {
		return w
	}
	cause := *w
	cause.Text = w.Forward.Cause
	e := &ForwardError{w.Forward.NIC, w.Forward.Forward, &cause}
	if errors.Is(w, unix.EADDRINUSE) {
		cause.Text += o.holder(ctx, e.Forward) + ": stop it, or forward another port"
	}
	return e
}

// holder names the VM, or else the processes, that have what a forward wants to listen at.
func (o Options) holder(ctx context.Context, f Forward) string {
	infos, err := List(ctx, o.RunDir)
	if err == nil { // else the processes are named
		for _, n := range infos {
			if vm := n.holder(f); vm != "" {
				return fmt.Sprintf(" by VM %q, of network %q", vm, n.Name)
			}
		}
	}
	words := ""
	o.asRoot(func() error { //nolint:errcheck // without rights, the addresses are named
		words = sockets.Describe("/proc", f.Proto, f.Port, wouldHold(f))
		return nil
	})
	return words
}

func (i Info) holder(f Forward) string {
	for _, vm := range i.VMs {
		for _, p := range vm.Ports {
			if slices.ContainsFunc(p.Forwards, func(have Forwarded) bool { return have.Meets(f) }) {
				return vm.Name
			}
		}
	}
	return ""
}

// answer is the keeper's, with its files.
type answer struct {
	reply Reply
	files []*os.File
}

// answered passes an answer to the call of ask that waits for it, and closes the files of one
// that came too late. The registration tells the next keeper of the ports.
func (r *Registration) answered(a answer) {
	if a.reply.Error == nil {
		r.held.Store(&a.reply.Ports)
	}
	select {
	case late := <-r.answers:
		CloseAll(late.files)
	default:
	}
	r.answers <- a
}

// Forward adds forwards to the VM's NIC of that index, all or none, and returns their sockets,
// which become the caller's: one for each, nil for one at ::1 that the host lacks where the same
// at 127.0.0.1 is among them. A port below net.ipv4.ip_unprivileged_port_start is root's: the
// connection to the keeper must have been made by root. The error may be a ForwardError.
func (r *Registration) Forward(ctx context.Context, nic int, add []Forward) ([]*os.File, error) {
	a, err := r.ask(ctx, Request{Op: OpForward, NIC: nic, Forwards: add})
	if err != nil {
		return nil, err
	}
	files := make([]*os.File, len(add))
	left := a.files
	for i, f := range add {
		if len(left) > 0 && has(a.reply.Ports, nic, f) {
			files[i], left = left[0], left[1:]
		}
	}
	if len(left) > 0 {
		CloseAll(a.files)
		return nil, fmt.Errorf("forward ports: the keeper sent %d sockets for %d forwards", len(a.files), len(add))
	}
	return files, nil
}

// has reports whether a NIC has the forward.
func has(ports []Port, nic int, f Forward) bool {
	return slices.ContainsFunc(ports, func(p Port) bool {
		return p.NIC == nic && slices.ContainsFunc(p.Forwards, func(have Forwarded) bool { return have.Forward == f })
	})
}

// Unforward undoes what the keeper does for forwards of the VM's NIC of that index: other
// machines' connections that reach the guest by DNAT end. The caller closes the sockets, and
// until then the relay has new connections. A forward that the NIC lacks is an error, and then
// nothing changes; one at ::1 may be missing where the same at 127.0.0.1 is removed.
func (r *Registration) Unforward(ctx context.Context, nic int, rm []Forward) error {
	_, err := r.ask(ctx, Request{Op: OpUnforward, NIC: nic, Forwards: rm})
	return err
}

// ask sends a request and waits for its answer, or for the end of the keeper.
func (r *Registration) ask(ctx context.Context, req Request) (answer, error) {
	r.asking.Lock()
	defer r.asking.Unlock()
	r.mu.Lock()
	r.lastID++
	req.Versions, req.ID = Speaks, r.lastID
	conn, ended := r.conn, r.ended
	r.mu.Unlock()
	if conn == nil {
		return answer{}, fmt.Errorf("network %q: %w", r.network.Name, errGone)
	}
	if err := Send(conn, req); err != nil {
		return answer{}, fmt.Errorf("network %q: %w: %w", r.network.Name, errGone, err)
	}
	for {
		select {
		case a := <-r.answers:
			switch {
			case a.reply.To != req.ID: // of a request that was given up
				CloseAll(a.files)
				continue
			case a.reply.Error != nil:
				CloseAll(a.files)
				return answer{}, r.options.explain(ctx, a.reply.Error)
			}
			r.options.report(a.reply)
			return a, nil
		case <-ended:
			return answer{}, fmt.Errorf("network %q: %w before it answered: try again", r.network.Name, errGone)
		case <-ctx.Done():
			return answer{}, fmt.Errorf("network %q: %w", r.network.Name, ctx.Err())
		}
	}
}

// validForwards refuses forwards that no socket can be bound to, those that clash with each other,
// and too many of them.
func validForwards(vm string, requests []PortRequest) error {
	var sofar []Forward
	for _, p := range requests {
		for _, f := range p.Forwards {
			if err := forward.Check(f); err != nil {
				return &ForwardError{p.NIC, f, host.Refuse("%w", err)}
			}
			if o, ok := ports.Meeting(f, sofar); ok {
				return &ForwardError{p.NIC, f, host.Refuse("it listens where %s does, of the same VM", o)}
			}
			if sofar = append(sofar, f); len(sofar) > ports.Most {
				return TooManyForwards(vm)
			}
		}
	}
	return nil
}

// TooManyForwards refuses more than ports.Most forwards of a VM.
func TooManyForwards(vm string) error {
	return host.Refuse("VM %q has more than %d forwards, which is the most: forward fewer ports", vm, ports.Most)
}

// wouldHold says of addresses whether a socket at one keeps the forward from its port.
func wouldHold(f Forward) func(netip.Addr) bool {
	return func(a netip.Addr) bool {
		sameFamily := a.Is4() == f.Address.Is4()
		return a.IsUnspecified() || !f.Address.IsValid() || f.Address.IsUnspecified() && sameFamily || a == f.Address
	}
}
