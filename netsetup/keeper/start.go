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
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/confine"
	"github.com/qnet-vm/qnet/internal/lockfile"
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/dns"
	"github.com/qnet-vm/qnet/netsetup/host"
)

// capabilities are those that a keeper needs; it loses all others.
const capabilities = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW | 1<<unix.CAP_NET_BIND_SERVICE

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

// dialOrStart starts a keeper under the start lock, so that only one starts.
func (o Options) dialOrStart(ctx context.Context, n Network) (*net.UnixConn, error) {
	place := rundir.Network{RunDir: o.RunDir, Name: n.Name}
	if c, err := dial(place); !noKeeper(err) {
		return c, err
	}
	lock, err := lockfile.Wait(ctx, place.StartLock())
	if err != nil {
		return nil, Permission(err)
	}
	defer lock.Release()
	if c, err := dial(place); !noKeeper(err) {
		return c, err
	}
	if err := o.start(ctx, n); err != nil {
		return nil, err
	}
	c, err := dial(place)
	if noKeeper(err) {
		err = fmt.Errorf("%w: %w", errDied, err) // just after it said that it serves
	}
	return c, err
}

// Permission adds host.ErrNoPermission to an error about the run directory that
// says that the caller lacks the rights.
func Permission(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: %w", host.ErrNoPermission, err)
	}
	return err
}

func noKeeper(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED)
}

func dial(n rundir.Network) (*net.UnixConn, error) {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: n.Socket(), Net: "unixpacket"})
	if err != nil {
		return nil, Permission(err)
	}
	return c, nil
}

// start runs a keeper and waits until it serves or says why it cannot.
func (o Options) start(ctx context.Context, n Network) error {
	ready, theirs, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start keeper: %w", err)
	}
	defer ready.Close()
	cmd, err := o.command(n, theirs)
	if err == nil && n.Mode.HasSubnet() {
		err = o.startBoth(cmd, n.Name)
	} else if err == nil {
		err = startLowered(cmd)
	}
	theirs.Close()
	if err != nil {
		return fmt.Errorf("start keeper: %w", err)
	}
	// The keeper outlives this call, and mostly this process. If it ends earlier, the
	// wait keeps it from staying a zombie; the goroutine ends with the keeper.
	go cmd.Wait() //nolint:errcheck // the keeper's result came over the pipe
	stop := context.AfterFunc(ctx, func() { ready.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	rep, err := o.firstWord(ready)
	if err != nil && ctx.Err() != nil {
		return ctx.Err() // the keeper ends when it finds the pipe closed
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

// command is the keeper's process, which reads a Spec on stdin and says on fd 3 how
// its start went. With a subnet, fd 4 leads to the steward of its clerks.
func (o Options) command(n Network, ready *os.File) (*exec.Cmd, error) {
	spec := Spec{Versions: Speaks, Network: n, Starter: os.Getpid(), AssumeYes: o.AssumeYes, Peer: o.Peer}
	if n.Mode.HasSubnet() {
		spec.Port53 = dns.Holders()
		clerk := ConfinementOf(n.Name)
		spec.Clerk = &clerk
	}
	stdin, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	argv := append(slices.Clone(o.Exe), "--run-dir", o.RunDir, "--state-dir", o.StateDir)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.ExtraFiles = []*os.File{ready}
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if os.Geteuid() == 0 && os.Getuid() != 0 { // within AsRoot
		cmd.SysProcAttr.Credential = &syscall.Credential{}
	}
	return cmd, nil
}

// startLowered starts a command with the keeper's capabilities only. The bounding
// set belongs to a thread: the one that forks is used for nothing else, and ends.
func startLowered(cmd *exec.Cmd) error {
	return startAfter(cmd, func() error {
		if os.Geteuid() != 0 { // others have no more than their file's capabilities
			return nil
		}
		return confine.DropBounding(capabilities)
	})
}

// startAfter starts a command on a thread that has given up something. The thread ends then.
func startAfter(cmd *exec.Cmd, giveUp func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := giveUp()
		if err == nil {
			err = cmd.Start()
		}
		result <- err
	}()
	return <-result
}

// firstWord reads what a keeper waits for, and then its word.
func (o Options) firstWord(ready io.Reader) (Reply, error) {
	for words := json.NewDecoder(ready); ; {
		var rep Reply
		if err := words.Decode(&rep); err != nil || rep.Waits == "" {
			return rep, err
		}
		if o.Waits != nil {
			o.Waits(rep.Waits)
		}
	}
}
