package keeper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lockfile"
	"github.com/qnet-vm/qnet/netsetup/dns"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/plan"
)

// Options say where files are and how a keeper is started.
type Options struct {
	RunDir, StateDir string
	Exe              []string         // argv that runs Main, {"/proc/self/exe", "keeper"}
	Log              func(string)     // each step as it was done; may be nil
	Note             func(string)     // what the user should know; may be nil
	Waits            func(string)     // what the start waits for that may take long; may be nil
	Changed          func([]PortInfo) // gets a registration's ports when they change; may be nil
	Replug           func([]int)      // pulls and plugs the guest's cables of these NICs; may be nil

	AssumeYes bool       // move the host to a bridge though nobody could tell whether that went well
	Peer      netip.Addr // the other end of the remote session qnet runs in, zero if it runs in none

	// GiveUp is called when no keeper could be had, before what the last of them left
	// is undone: it lets go of the files of the ports' taps. It may be nil.
	GiveUp func()

	// AsRoot runs what needs the rights Join had, for a caller that dropped them
	// since; nil runs it as it is.
	AsRoot func(func() error) error
}

// Network is what a profile asks of a network.
type Network = plan.Network

// startTimeout bounds the wait for a keeper that starts, or that is just undoing
// the network for its last VM. Link removal takes some 50 ms.
const startTimeout = 30 * time.Second

var (
	// errGone tells that the keeper ended before it answered.
	errGone = errors.New("the keeper ended")
	// errDied tells that it did so at its start.
	errDied = fmt.Errorf("%w without a word", errGone)
)

// Join connects a VM's NICs to the network, starting its keeper where none runs.
// Errors wrap netsetup's; nothing is left behind when one is returned.
func Join(ctx context.Context, o Options, n Network, vm string, ports []PortRequest) (*Registration, error) {
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return nil, fmt.Errorf("join network %q: %w", n.Name, host.ErrNoTun)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ns, err := host.NetNS()
	if err != nil {
		return nil, err
	}
	req := request{Op: "join", NetNS: ns, Network: n, VM: vm, Ports: slices.Clone(ports)}
	for i := range req.Ports {
		req.Ports[i].Queues = len(req.Ports[i].Files)
	}
	for died := 0; ; {
		r, err := o.join(ctx, n, req)
		// A keeper that is leaving closes the connection unanswered: the next
		// one waits for it to be done. One that dies at its start is worth
		// another try, which undoes what it did.
		if errors.Is(err, errDied) {
			died++
		}
		if errors.Is(err, errGone) && ctx.Err() == nil && died < 3 {
			continue
		}
		if err != nil && ctx.Err() != nil {
			err = ctx.Err() // what it led to is of no interest
		}
		if errors.Is(err, errGone) {
			if o.GiveUp != nil {
				o.GiveUp()
			}
			_, undoErr := Collect(context.WithoutCancel(ctx), o)
			err = errors.Join(err, undoErr)
		}
		if err != nil {
			return nil, fmt.Errorf("join network %q: %w", n.Name, err)
		}
		return r, nil
	}
}

func (o Options) join(ctx context.Context, n Network, req request) (*Registration, error) {
	conn, err := o.connect(ctx, n)
	if err != nil {
		return nil, err
	}
	// Join gives up when its context ends, even while the keeper is silent.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var rep reply
	files, err := exchange(conn, req, &rep, given(req.Ports)...)
	if err == nil && rep.Error != nil {
		err = rep.Error
	}
	opened := 0 // by the keeper
	for _, p := range req.Ports {
		if p.Queues == 0 {
			opened++
		}
	}
	if err == nil && (len(files) != opened || len(rep.Ports) != len(req.Ports)) {
		err = fmt.Errorf("receive taps: got %d files for %d ports", len(files), opened)
	}
	if err != nil {
		closeAll(files)
		conn.Close()
		return nil, err
	}
	o.report(rep)
	r := &Registration{options: o, network: n, vm: req.VM, conn: conn, info: *rep.Info, replies: make(chan reply, 1), done: make(chan struct{})}
	for i, p := range rep.Ports {
		port := Port{PortInfo: p}
		if req.Ports[i].Queues == 0 {
			port.File, files = files[0], files[1:]
		}
		r.ports = append(r.ports, port)
	}
	go r.follow(conn)
	return r, nil
}

func (o Options) report(rep reply) {
	for _, s := range rep.Steps {
		if o.Log != nil {
			o.Log(s)
		}
	}
	for _, s := range rep.Notes {
		if o.Note != nil {
			o.Note(s)
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

func exchange(conn *net.UnixConn, req request, rep *reply, files ...*os.File) ([]*os.File, error) {
	if err := send(conn, req, files...); err != nil {
		return nil, fmt.Errorf("%w: %w", errGone, err)
	}
	got, err := receive(conn, rep)
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
		err = fmt.Errorf("%w: %w", errGone, err)
	}
	return got, err
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// connect dials the network's keeper, starting one where none runs.
func (o Options) connect(ctx context.Context, n Network) (conn *net.UnixConn, err error) {
	err = o.asRoot(func() error {
		conn, err = o.dialOrStart(ctx, n)
		return err
	})
	return conn, err
}

func (o Options) asRoot(f func() error) error {
	if o.AsRoot == nil {
		return f()
	}
	return o.AsRoot(f)
}

// dialOrStart starts a keeper under the start lock, so that one starts.
func (o Options) dialOrStart(ctx context.Context, n Network) (*net.UnixConn, error) {
	p := paths{o.RunDir, n.Name}
	if c, err := dial(p); !noKeeper(err) {
		return c, err
	}
	lock, err := lockfile.Wait(ctx, p.startLock())
	if err != nil {
		return nil, permission(err)
	}
	defer lock.Release()
	if c, err := dial(p); !noKeeper(err) {
		return c, err
	}
	if err := o.start(ctx, n); err != nil {
		return nil, err
	}
	c, err := dial(p)
	if noKeeper(err) {
		err = fmt.Errorf("%w: %w", errDied, err) // just after it said that it serves
	}
	return c, err
}

// permission words the lack of rights to the run directory as what it means.
func permission(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: %w", host.ErrNoPermission, err)
	}
	return err
}

func noKeeper(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED)
}

func dial(p paths) (*net.UnixConn, error) {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: p.socket(), Net: "unixpacket"})
	if err != nil {
		return nil, permission(err)
	}
	return c, nil
}

// startSpec is what a keeper is told on stdin.
type startSpec struct {
	Network plan.Network `json:"network"`
	Port53  string       `json:"port53,omitempty"` // of dns.Holders, asked by who may know

	Starter   int        `json:"starter,omitempty"` // the process that starts it, 0 if it need not live
	AssumeYes bool       `json:"assume_yes,omitempty"`
	Peer      netip.Addr `json:"peer,omitzero"`
}

// start runs a keeper and waits until it serves or says why it cannot.
func (o Options) start(ctx context.Context, n Network) error {
	start := startSpec{Network: n, Starter: os.Getpid(), AssumeYes: o.AssumeYes, Peer: o.Peer}
	if n.Mode.HasSubnet() {
		start.Port53 = dns.Holders()
	}
	spec, err := json.Marshal(start)
	if err != nil {
		return fmt.Errorf("start keeper: %w", err)
	}
	ready, theirs, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start keeper: %w", err)
	}
	defer ready.Close()
	argv := append(slices.Clone(o.Exe), "--run-dir", o.RunDir, "--state-dir", o.StateDir)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = bytes.NewReader(spec)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if os.Geteuid() == 0 && os.Getuid() != 0 { // AsRoot
		cmd.SysProcAttr.Credential = &syscall.Credential{}
	}
	err = startLowered(cmd)
	theirs.Close()
	if err != nil {
		return fmt.Errorf("start keeper: %w", err)
	}
	// A keeper outlives this call; when it ends while this process lives, it
	// must not stay a zombie.
	go cmd.Wait() //nolint:errcheck // its result came over the pipe
	stop := context.AfterFunc(ctx, func() { ready.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	rep, err := o.firstWord(ready)
	if err != nil && ctx.Err() != nil {
		return ctx.Err() // it ends when it finds the pipe closed
	}
	if err != nil {
		return fmt.Errorf("start keeper: %w: %w", errDied, err)
	}
	if rep.Error != nil {
		return rep.Error
	}
	o.report(rep)
	return nil
}

// firstWord reads what a keeper waits for, and then its word.
func (o Options) firstWord(ready io.Reader) (reply, error) {
	for words := json.NewDecoder(ready); ; {
		var rep reply
		if err := words.Decode(&rep); err != nil || rep.Waits == "" {
			return rep, err
		}
		if o.Waits != nil {
			o.Waits(rep.Waits)
		}
	}
}

// List asks the keepers of a run directory for their networks.
func List(ctx context.Context, runDir string) ([]Info, error) {
	list, err := all(runDir)
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	var infos []Info
	for _, p := range list {
		info, err := query(ctx, p)
		if noKeeper(err) || errors.Is(err, errGone) {
			continue // left behind, or just leaving
		}
		if err != nil {
			return nil, fmt.Errorf("list network %q: %w", p.network, err)
		}
		infos = append(infos, *info)
	}
	return infos, nil
}

func query(ctx context.Context, p paths) (*Info, error) {
	conn, err := dial(p)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	var rep reply
	if _, err := exchange(conn, request{Op: "info"}, &rep); err != nil {
		return nil, err
	}
	if rep.Error != nil || rep.Info == nil {
		return nil, rep.Error
	}
	return rep.Info, nil
}
