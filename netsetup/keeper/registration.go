package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/host"
)

// Registration is a VM's place in a network, as long as the process that holds it
// lives or until Leave. When the keeper dies, the registration starts the next one.
// Its methods may be called concurrently. It owns two goroutines, which end when the
// keeper is gone for good: one reads from the keeper, one runs Options.Replug.
type Registration struct {
	options Options
	network Network
	vm      string
	info    Info
	ports   []Port
	replies chan Reply
	answers chan answer // to what Forward and Unforward ask
	asking  sync.Mutex  // one of them at a time
	replugs chan []int
	settled chan struct{} // closed by settle
	settle  func()        // may be called again
	done    chan struct{}
	cancel  context.CancelFunc // ends the search for the next keeper

	// held are the ports as the keeper said last, nil until it said more than at the join. The
	// search for the next keeper, which holds mu, calls what reads them.
	held atomic.Pointer[[]Port]

	mu      sync.Mutex // guards what follows
	conn    *net.UnixConn
	ended   chan struct{} // closed when conn has ended
	lastID  int           // of the requests with an answer of their own
	leaving bool
}

// replugLimit is how many orders to replug may wait for the one that runs. More
// are dropped: the guest sees its cable pulled soon anyway.
const replugLimit = 4

func newRegistration(o Options, n Network, vm string, conn *net.UnixConn, info Info) *Registration {
	settled := make(chan struct{})
	return &Registration{
		options: o, network: n, vm: vm, conn: conn, info: info, cancel: func() {},
		settled: settled, settle: sync.OnceFunc(func() { close(settled) }),
		ended: make(chan struct{}), replies: make(chan Reply, 1), answers: make(chan answer, 1), replugs: make(chan []int, replugLimit), done: make(chan struct{}),
	}
}

// Info is the network as it was at Join.
func (r *Registration) Info() Info { return r.info }

// Ports are the NICs connected, in the order of the requests.
func (r *Registration) Ports() []Port { return r.ports }

// Done is closed when the keeper is gone for good: after Leave, or when no other
// could be started.
func (r *Registration) Done() <-chan struct{} { return r.done }

// follow reads what the keeper says until the registration ends. Of ctx only the
// values count: the registration outlives Join.
func (r *Registration) follow(ctx context.Context) {
	ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	conn := r.conn
	go func() {
		defer close(r.done)
		defer close(r.replugs)
		for conn != nil {
			r.read(conn)
			conn.Close()
			r.settle() // the next keeper tells by its updates
			r.lose()
			conn = r.rejoin(ctx)
		}
	}()
	go func() {
		for nics := range r.replugs {
			if r.options.Replug != nil {
				r.options.Replug(nics)
			}
		}
	}()
}

// read is the only reader of the connection once Join is done.
func (r *Registration) read(conn *net.UnixConn) {
	for {
		var rep Reply
		files, err := receiveReply(conn, &rep)
		if err == nil && rep.To != 0 {
			r.answered(answer{rep, files})
			continue
		}
		CloseAll(files)
		switch {
		case err != nil:
			return
		case rep.Update != nil:
			r.options.report(rep)
			r.update(rep.Update)
			if rep.Settled {
				r.settle()
			}
		case rep.Replug != nil:
			select {
			case r.replugs <- rep.Replug:
			default:
			}
		case len(rep.notes()) > 0 && !rep.Left:
			r.options.report(rep)
		default:
			select {
			case r.replies <- rep:
			default: // no request waits for it: news of a later version
			}
		}
	}
}

// lose tells the call that waits for an answer that none comes.
func (r *Registration) lose() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.ended)
	r.ended = make(chan struct{})
}

func (r *Registration) update(ports []Port) {
	r.held.Store(&ports)
	if r.options.Changed != nil {
		r.options.Changed(ports)
	}
}

// now are the ports as the keeper said last.
func (r *Registration) now() []Port {
	if held := r.held.Load(); held != nil {
		return *held
	}
	return r.ports
}

// rejoin finds or starts the next keeper. It returns nil when the VM leaves
// anyway, and when no keeper could be had.
func (r *Registration) rejoin(ctx context.Context) *net.UnixConn {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leaving {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	conn, err := r.connectAgain(ctx)
	note := Note{Subject: "network " + r.network.Name, Text: fmt.Sprintf("the keeper of network %s was gone; another has taken over", r.network.Name)}
	if err != nil {
		note.Text = fmt.Sprintf("the keeper of network %s is gone, and no other could take over (restart the VM to get its network back): %v", r.network.Name, err)
		note.Remedy = ""
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
	req := Request{Versions: Speaks, Op: OpRejoin, NetNS: ns, Network: r.network, VM: r.vm, Held: r.now()}
	for {
		conn, err := r.options.connect(ctx, r.network)
		if err != nil {
			return nil, err
		}
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		var rep Reply
		files, err := exchange(conn, req, &rep)
		stop()
		CloseAll(files)
		if errors.Is(err, errGone) && ctx.Err() == nil {
			conn.Close()
			continue // killed again, or leaving
		}
		if err == nil && rep.Error != nil {
			err = rep.Error
		}
		if err == nil {
			err = Speaks.Check(rep.Versions, r.network.Name, nil)
		}
		if err != nil {
			conn.Close()
			return nil, err
		}
		r.options.report(rep)
		return conn, nil
	}
}

// Ending tells the keeper that the VM uses its ports no more, so that the keeper
// undoes them while QEMU's process still ends. Leave must follow.
func (r *Registration) Ending() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leaving = true
	if r.conn != nil {
		Send(r.conn, Request{Versions: Speaks, Op: OpEnding}) //nolint:errcheck // Leave meets the error again
	}
}

// Leave ends the registration. It returns when the keeper has undone this VM's
// ports, and with the last VM the whole network. The error says what could not be
// undone. It wraps host.ErrLeft if something stays on the host that the journal
// tells of: `qnet gc` tries again. If the keeper died, Leave undoes the network in its
// place.
//
// The connection stays open until Close or the end of the process: if the process
// dies before it has removed the VM's own files, the keeper removes them.
func (r *Registration) Leave(ctx context.Context) error {
	r.mu.Lock()
	r.leaving = true
	conn := r.conn
	r.mu.Unlock()
	for _, p := range r.ports {
		if p.File != nil {
			p.File.Close()
		}
		CloseAll(p.Sockets)
	}
	if conn == nil || Send(conn, Request{Versions: Speaks, Op: OpLeave}) != nil {
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

func (r *Registration) left(rep Reply) error {
	r.options.report(rep)
	if rep.Error != nil {
		return fmt.Errorf("leave network %q: %w", r.info.Name, rep.Error)
	}
	return nil
}

// Close ends the connection after Leave. Its error is about the connection only.
func (r *Registration) Close() error {
	r.cancel()
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

// goneInterval is the pause between two looks whether the kernel has closed the
// files of a dead keeper and of QEMU. It takes some milliseconds for both.
const goneInterval = 20 * time.Millisecond

// clean undoes what a keeper left that died just then.
func (r *Registration) clean(ctx context.Context) error {
	place := rundir.Network{RunDir: r.options.RunDir, Name: r.network.Name}
	for {
		err := r.options.asRoot(func() error {
			_, err := collectAll(ctx, r.options, r.vm)
			return err
		})
		if err != nil {
			return fmt.Errorf("leave network %q: %w", r.info.Name, err)
		}
		if gone, err := r.gone(ctx, place); gone || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("leave network %q: %w", r.info.Name, ctx.Err())
		case <-time.After(goneInterval):
		}
	}
}

// gone reports whether nothing of the network is left, or another keeper has it.
func (r *Registration) gone(ctx context.Context, place rundir.Network) (bool, error) {
	if _, err := query(ctx, place); err == nil {
		return true, nil
	}
	left := false
	for _, path := range []string{place.Dir(), place.KeeperLock()} {
		if _, err := os.Stat(path); err == nil {
			left = true
		} else if !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("leave network %q: %w", r.info.Name, err)
		}
	}
	return !left, nil
}
