package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"

	"github.com/qnet-vm/qnet/netsetup/host"
)

// Registration is a VM's place in a network, as long as the process that holds
// it lives or until Leave. When the keeper dies, it starts the next one.
type Registration struct {
	options Options
	network Network
	vm      string
	info    Info
	ports   []Port
	replies chan reply
	done    chan struct{}

	mu      sync.Mutex // guards what follows
	conn    *net.UnixConn
	held    []PortInfo // as the keeper told last
	leaving bool
}

// Info is the network as it was at Join.
func (r *Registration) Info() Info { return r.info }

// Ports are the NICs connected, in the order asked for.
func (r *Registration) Ports() []Port { return r.ports }

// Done is closed when the keeper is gone for good: after Leave, or when no other
// could be started.
func (r *Registration) Done() <-chan struct{} { return r.done }

// follow reads what the keeper says until the registration ends.
func (r *Registration) follow(conn *net.UnixConn) {
	defer close(r.done)
	for conn != nil {
		r.read(conn)
		conn.Close()
		conn = r.rejoin()
	}
}

// read is the only reader of the connection once Join is done.
func (r *Registration) read(conn *net.UnixConn) {
	for {
		var rep reply
		files, err := receive(conn, &rep)
		closeAll(files)
		switch {
		case err != nil:
			return
		case rep.Update != nil:
			r.update(rep.Update)
		case rep.Replug != nil:
			if r.options.Replug != nil {
				go r.options.Replug(rep.Replug)
			}
		case rep.Notes != nil && !rep.Left:
			r.options.report(rep)
		default:
			select {
			case r.replies <- rep:
			default: // nobody asked: a keeper of another version
			}
		}
	}
}

func (r *Registration) update(ports []PortInfo) {
	r.mu.Lock()
	r.held = ports
	r.mu.Unlock()
	if r.options.Changed != nil {
		r.options.Changed(ports)
	}
}

// rejoin finds or starts the next keeper. It returns nil when the VM leaves
// anyway, and when no keeper could be had.
func (r *Registration) rejoin() *net.UnixConn {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leaving {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	conn, err := r.connectAgain(ctx)
	note := fmt.Sprintf("the keeper of network %s was gone; another has taken over", r.network.Name)
	if err != nil {
		note = fmt.Sprintf("the keeper of network %s is gone, and no other could take over (restart the VM to get its network back): %v", r.network.Name, err)
	}
	if r.options.Note != nil {
		r.options.Note(note)
	}
	r.conn = conn
	return conn
}

func (r *Registration) connectAgain(ctx context.Context) (*net.UnixConn, error) {
	ns, err := host.NetNS()
	if err != nil {
		return nil, err
	}
	held := r.held
	if held == nil {
		for _, p := range r.ports {
			held = append(held, p.PortInfo)
		}
	}
	req := request{Op: "rejoin", NetNS: ns, Network: r.network, VM: r.vm, Held: held}
	for {
		conn, err := r.options.connect(ctx, r.network)
		if err != nil {
			return nil, err
		}
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		var rep reply
		files, err := exchange(conn, req, &rep)
		stop()
		closeAll(files)
		if errors.Is(err, errGone) && ctx.Err() == nil {
			conn.Close()
			continue // killed again, or leaving
		}
		if err == nil && rep.Error != nil {
			err = rep.Error
		}
		if err != nil {
			conn.Close()
			return nil, err
		}
		r.options.report(rep)
		return conn, nil
	}
}

// Ending tells the keeper that the VM uses its ports no more, so that it undoes
// them while QEMU's process still ends. Leave must follow.
func (r *Registration) Ending() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leaving = true
	if r.conn != nil {
		send(r.conn, request{Op: "ending"}) //nolint:errcheck // Leave will see
	}
}

// Leave ends the registration. It returns when this VM's ports, and with the
// last VM the whole network, are undone, with what could not be undone. The
// connection stays open until Close or the end of the process: if that dies
// before it has removed the VM's own files, the keeper does.
func (r *Registration) Leave(ctx context.Context) error {
	r.mu.Lock()
	r.leaving = true
	conn := r.conn
	r.mu.Unlock()
	for _, p := range r.ports {
		if p.File != nil {
			p.File.Close()
		}
	}
	if conn == nil || send(conn, request{Op: "leave"}) != nil {
		return r.clean(ctx)
	}
	select {
	case rep := <-r.replies:
		return r.left(rep)
	case <-ctx.Done():
		return fmt.Errorf("leave network %q: %w", r.info.Name, ctx.Err())
	case <-r.done:
	}
	select {
	case rep := <-r.replies: // said just before the end
		return r.left(rep)
	default:
		return r.clean(ctx)
	}
}

func (r *Registration) left(rep reply) error {
	r.options.report(rep)
	if rep.Error != nil {
		return fmt.Errorf("leave network %q: %w", r.info.Name, rep.Error)
	}
	return nil
}

// Close lets the keeper go after Leave.
func (r *Registration) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leaving = true
	if r.conn == nil {
		return nil
	}
	if err := r.conn.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil // the keeper was gone first
}

// clean undoes what a keeper left that died just then.
func (r *Registration) clean(ctx context.Context) error {
	p := paths{r.options.RunDir, r.network.Name}
	for {
		err := r.options.asRoot(func() error {
			_, err := collectAll(r.options, r.vm)
			return err
		})
		if err != nil {
			return fmt.Errorf("leave network %q: %w", r.info.Name, err)
		}
		// QEMU's end closed the taps, and the keeper's its lock; the kernel takes
		// some milliseconds for both.
		if gone, err := r.gone(p); gone || err != nil {
			return err
		}
		if !wait(ctx, 20*time.Millisecond) {
			return fmt.Errorf("leave network %q: %w", r.info.Name, ctx.Err())
		}
	}
}

// gone reports whether nothing of the network is left, or another keeper has it.
func (r *Registration) gone(p paths) (bool, error) {
	if _, err := query(context.Background(), p); err == nil {
		return true, nil
	}
	left := false
	for _, path := range []string{p.dir(), p.keeperLock()} {
		if _, err := os.Stat(path); err == nil {
			left = true
		} else if !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("leave network %q: %w", r.info.Name, err)
		}
	}
	return !left, nil
}
