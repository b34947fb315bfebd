package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/plan"
)

// Options say where files are and how a keeper is started. The functions may be
// called from other goroutines than the caller's, one at a time each.
type Options struct {
	RunDir, StateDir string
	Exe              []string     // argv that runs server.Main, {"/proc/self/exe", "keeper"}
	Log              func(string) // gets each step as it was done; may be nil
	Note             func(Note)   // gets what the user should know; may be nil
	Waits            func(string) // gets what the start waits for that may take long; may be nil
	Changed          func([]Port) // gets a registration's ports when they change; may be nil
	Replug           func([]int)  // pulls and plugs the guest's cables of these NICs; may be nil

	AssumeYes bool       // move the host to a bridge though no gateway answers that could verify the move
	Peer      netip.Addr // the other end of the remote session that qnet runs in, zero if none

	// GiveUp is called when no keeper could be had, before Join undoes what the last
	// of them left: it closes the caller's files of the ports' taps. It may be nil.
	GiveUp func()

	// AsRoot runs what needs the rights that Join had, for a caller that dropped them
	// since. Nil runs it as it is.
	AsRoot func(func() error) error

	// Stewards holds back those of the keepers that are started. Nil starts them at once.
	Stewards *Stewards
}

// Network is what a profile asks of a network.
type Network = plan.Network

// startTimeout bounds the wait for a keeper that starts, and for the undo of the
// network's last keeper before that. Link removal takes some 50 ms.
const startTimeout = 30 * time.Second

// startLimit is how many keepers may die at their start before Join gives up.
const startLimit = 3

var (
	// errGone says that the keeper ended before it answered.
	errGone = errors.New("the keeper ended")
	// errDied says that the keeper ended at its start.
	errDied = fmt.Errorf("%w without a word", errGone)
)

// Join connects a VM's NICs to the network, and starts its keeper where none runs.
// It returns when the ports stand, when ctx ends, or after startTimeout. Errors wrap
// those of package host; nothing is left behind when one is returned. The registration outlives
// ctx.
func Join(ctx context.Context, o Options, n Network, vm string, ports []PortRequest) (*Registration, error) {
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return nil, fmt.Errorf("join network %q: %w", n.Name, host.ErrNoTun)
	}
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ns, err := host.NetNS()
	if err != nil {
		return nil, err
	}
	req := Request{Versions: Speaks, Op: OpJoin, NetNS: ns, Network: n, VM: vm, Ports: slices.Clone(ports)}
	for i := range req.Ports {
		req.Ports[i].Queues = len(req.Ports[i].Files)
	}
	for died := 0; ; {
		r, err := o.join(ctx, n, req)
		// A keeper that is leaving closes the connection unanswered: the next one waits
		// until that has undone the network. One that dies at its start is worth another
		// try, which undoes what the dead one did.
		if errors.Is(err, errDied) {
			died++
		}
		if errors.Is(err, errGone) && ctx.Err() == nil && died < startLimit {
			continue
		}
		if err == nil {
			r.follow(outer)
			return r, nil
		}
		return nil, fmt.Errorf("join network %q: %w", n.Name, o.giveUp(ctx, err))
	}
}

// giveUp undoes what keepers that died have left, and returns Join's error.
func (o Options) giveUp(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = ctx.Err() // what it led to does not matter
	}
	if !errors.Is(err, errGone) {
		return err
	}
	if o.GiveUp != nil {
		o.GiveUp()
	}
	_, undoErr := Collect(context.WithoutCancel(ctx), o)
	return errors.Join(err, undoErr)
}

func (o Options) join(ctx context.Context, n Network, req Request) (*Registration, error) {
	conn, err := o.connect(ctx, n)
	if err != nil {
		return nil, err
	}
	// Join gives up when its context ends, even while the keeper is silent.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var rep Reply
	files, err := exchange(conn, req, &rep, given(req.Ports)...)
	if err == nil && rep.Error != nil {
		err = o.explain(ctx, rep.Error)
	}
	if err == nil {
		err = Speaks.Check(rep.Versions, n.Name, nil)
	}
	if err == nil {
		err = rep.fits(req, files)
	}
	if err != nil {
		CloseAll(files)
		conn.Close()
		return nil, err
	}
	o.report(rep)
	r := newRegistration(o, n, req.VM, conn, *rep.Info)
	if !rep.Later {
		r.settle()
	}
	for i, p := range rep.Ports {
		if req.Ports[i].Queues == 0 {
			p.File, files = files[0], files[1:]
		}
		r.ports = append(r.ports, p)
	}
	for i := range r.ports {
		p := &r.ports[i]
		p.Sockets, files = files[:len(p.Forwards):len(p.Forwards)], files[len(p.Forwards):]
	}
	return r, nil
}

// fits refuses the answer to a join that is none to this request.
func (r Reply) fits(req Request, files []*os.File) error {
	want := opens(req.Ports)
	for i, p := range r.Ports {
		want += len(p.Forwards)
		if i < len(req.Ports) && len(p.Forwards) == 0 && len(req.Ports[i].Forwards) > 0 {
			return host.Refuse("network %q runs by an older qnet, which forwards no ports: stop all VMs on it, then start this VM", req.Network.Name)
		}
		if i < len(req.Ports) && !p.Reach.Equal(req.Ports[i].Reach) {
			return host.Refuse("network %q runs by an older qnet, which knows no %s: stop all VMs on it, then start this VM", req.Network.Name, strings.Join(req.Ports[i].Reach.Keys(), ", "))
		}
	}
	if len(files) != want || len(r.Ports) != len(req.Ports) || r.Info == nil {
		return fmt.Errorf("receive taps and sockets: got %d files, want %d", len(files), want)
	}
	return nil
}

// opens is how many taps the keeper opens, and sends the file of.
func opens(ports []PortRequest) (n int) {
	for _, p := range ports {
		if p.Queues == 0 {
			n++
		}
	}
	return n
}

func (o Options) report(rep Reply) {
	for _, s := range rep.Steps {
		if o.Log != nil {
			o.Log(s)
		}
	}
	for _, n := range rep.notes() {
		if o.Note != nil {
			o.Note(n)
		}
	}
}

// given are all files of the ports, in their order.
func given(ports []PortRequest) []*os.File {
	var files []*os.File
	for _, p := range ports {
		files = append(files, p.Files...)
	}
	return files
}

func exchange(conn *net.UnixConn, req Request, rep *Reply, files ...*os.File) ([]*os.File, error) {
	if err := Send(conn, req, files...); err != nil {
		return nil, fmt.Errorf("%w: %w", errGone, err)
	}
	got, err := receiveReply(conn, rep)
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
		err = fmt.Errorf("%w: %w", errGone, err)
	}
	return got, err
}
