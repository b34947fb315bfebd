package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/keeper/clerk"
	"github.com/qnet-vm/qnet/netsetup/keeper/upkeep"
)

// deafTo are the signals that neither a keeper nor a watchdog acts on. The Go runtime ends a
// process by them.
var deafTo = []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGPIPE}

// memoryLimit is what a keeper tries to stay below, in bytes.
const memoryLimit = 16 << 20

// Process is a keeper's process before its start.
type Process struct {
	Clocks func() upkeep.Clock // tests have hosts that sleep
}

// Main runs a keeper: `qnet keeper --run-dir D --state-dir D`, started by keeper.Join
// with a keeper.Spec as JSON on stdin and a pipe for its first word as fd 3. It
// returns the exit code.
func Main(ctx context.Context, args []string, stdin io.Reader, stderr io.Writer) int {
	return Process{Clocks: upkeep.KernelClocks}.Main(ctx, args, stdin, stderr)
}

// Main is the function Main.
func (p Process) Main(ctx context.Context, args []string, stdin io.Reader, stderr io.Writer) int {
	// A keeper idles most of the time: the garbage of a burst, 64 KiB for each
	// netlink answer, is worth more to the host than the time to collect it.
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(memoryLimit)
	if len(args) > 0 && args[0] == watchdogFlag {
		return watchdogMain(ctx, args[1:], stderr)
	}
	if clerk.IsProcess(args) {
		return clerk.Main(args)
	}
	signal.Ignore(deafTo...)
	terms := make(chan os.Signal, 1)
	signal.Notify(terms, unix.SIGTERM)
	ready := os.NewFile(3, "ready")
	if err := p.run(ctx, args, stdin, ready, terms); err != nil {
		fmt.Fprintf(stderr, "qnet keeper: %v\n", err)
		return 1
	}
	return 0
}

// run starts the keeper, says on ready how that went, and serves. A SIGTERM that comes
// while the keeper starts counts once it serves: the keeper may be about to adopt a network
// that VMs use. Its start ends with the supervisor that started it.
func (p Process) run(ctx context.Context, args []string, stdin io.Reader, ready *os.File, terms <-chan os.Signal) error {
	words := json.NewEncoder(ready)
	starting, cancel := context.WithCancelCause(ctx)
	stop := watchPipe(ready, func() { cancel(errors.New("start keeper: the supervisor that starts it is gone")) })
	s, steps, err := p.start(starting, args, stdin, func(what string) {
		words.Encode(keeper.Reply{Waits: what}) //nolint:errcheck // if the supervisor is gone, the last word finds out
	})
	stop()
	if encodeErr := words.Encode(keeper.Reply{Versions: keeper.Speaks, Error: keeper.ToWire(err), Steps: steps}); err == nil && encodeErr != nil {
		err = encodeErr
		s.end(ctx)
	}
	cancel(nil)
	ready.Close()
	if err != nil {
		return err
	}
	return s.serve(ctx, terms)
}

// stewardFD is the descriptor of the steward's socket.
const stewardFD = 4

// pipeInterval is the time between two looks whether the pipe is closed.
const pipeInterval = 50 * time.Millisecond

// watchPipe calls closed once when the pipe's reader is gone, until stop, which
// joins its goroutine.
func watchPipe(pipe *os.File, closed func()) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	fd := int32(pipe.Fd())
	go func() {
		defer close(done)
		for {
			poll := []unix.PollFd{{Fd: fd}}
			if n, err := unix.Poll(poll, 0); n > 0 && err == nil { // POLLERR
				closed()
				return
			}
			select {
			case <-quit:
				return
			case <-time.After(pipeInterval):
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

func (p Process) start(ctx context.Context, args []string, stdin io.Reader, waits func(string)) (*server, []string, error) {
	if len(args) != 4 || args[0] != "--run-dir" || args[2] != "--state-dir" {
		return nil, nil, errors.New("start keeper: it is started by qnet run only")
	}
	var spec keeper.Spec
	if err := json.NewDecoder(stdin).Decode(&spec); err != nil {
		return nil, nil, fmt.Errorf("start keeper: decode network: %w", err)
	}
	if err := errors.Join(spec.Validate(), keeper.ValidDirs(args[1], args[3])); err != nil {
		return nil, nil, fmt.Errorf("start keeper: %w", err)
	}
	s := newServer(rundir.Network{RunDir: args[1], Name: spec.Network.Name}, args[3], spec)
	s.log, s.waits, s.clocks = slog.New(slog.DiscardHandler), waits, p.Clocks
	if spec.Network.Mode.HasSubnet() {
		var err error
		if s.steward, err = clerk.NewSteward(os.NewFile(stewardFD, "steward")); err != nil {
			return nil, nil, fmt.Errorf("start keeper: %w", err)
		}
	}
	steps, err := s.open(ctx)
	return s, steps, err
}
