package server

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/plan"
)

const (
	watchdogFlag = "--watchdog"
	// adoptTimeout is how long after a keeper's death its VMs' supervisors may take to
	// start the next one. Then the watchdog puts the host back.
	adoptTimeout = 1500 * time.Millisecond
	// watchInterval is the time between two looks whether one has.
	watchInterval = 20 * time.Millisecond
	// runLimit is the least time that a watchdog runs. One that ends sooner cannot run,
	// and is not started again and again.
	runLimit = time.Second
)

// watchdog is a process that outlives its keeper and puts the host back on its NIC
// when no other process does: kill -9 of all of qnet's processes, or the end of the
// terminal's whole process group, must not leave a host half way.
type watchdog struct {
	alive *os.File // the end of a pipe that the keeper's death closes
}

// startWatchdog starts one where the plan moves the host. A keeper has it from before
// the move to its own end.
func (s *server) startWatchdog(planned plan.Plan) error {
	if !planned.MovesHost() || s.watchdog != nil {
		return nil
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start watchdog: %w", err)
	}
	w := &watchdog{alive: ours}
	if err := w.start(s.place, s.stateDir, theirs); err != nil {
		ours.Close()
		theirs.Close()
		return fmt.Errorf("start watchdog: %w", err)
	}
	s.watchdog = w
	return nil
}

// start runs a watchdog, and another when it is killed. The goroutine that does so
// ends with the keeper's process, because the watchdog outlives that.
func (w *watchdog) start(place rundir.Network, stateDir string, pipe *os.File) error {
	run := func() (*exec.Cmd, error) {
		own := max(slices.Index(os.Args, "--run-dir"), 1) // before it are the words that run Main
		args := slices.Concat(os.Args[1:own], []string{watchdogFlag, place.RunDir, stateDir, place.Name})
		cmd := exec.Command("/proc/self/exe", args...)
		cmd.ExtraFiles = []*os.File{pipe}
		cmd.Dir = "/"
		cmd.Env = os.Environ()
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		return cmd, cmd.Start()
	}
	cmd, err := run()
	if err != nil {
		return err
	}
	go func() {
		for begin := time.Now(); err == nil; cmd, err = run() {
			cmd.Wait() //nolint:errcheck // it ends with us, or was killed
			if time.Since(begin) < runLimit {
				return
			}
			begin = time.Now()
		}
	}()
	return nil
}

// watchdogMain is the process: it waits for the keeper's end, and then until another
// keeper has the network or it is undone.
func watchdogMain(ctx context.Context, args []string, stderr io.Writer) int {
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(memoryLimit)
	signal.Ignore(append(deafTo, unix.SIGTERM)...) // it ends with its keeper
	if len(args) != 3 {
		fmt.Fprintln(stderr, "qnet keeper: the watchdog is started by a keeper only")
		return 1
	}
	alive := os.NewFile(3, "alive")
	io.Copy(io.Discard, alive) //nolint:errcheck // it waits for the end of the pipe
	if err := watchOver(ctx, rundir.Network{RunDir: args[0], Name: args[2]}); err != nil {
		fmt.Fprintf(stderr, "qnet watchdog: %v\n", err)
		return 1
	}
	return 0
}

// watchOver undoes the network of a dead keeper unless another adopts it in time.
func watchOver(ctx context.Context, n rundir.Network) error {
	for end := time.Now().Add(adoptTimeout); ; {
		late := time.Now().After(end)
		_, err := keeper.CollectNetwork(ctx, n, "", late)
		_, statErr := os.Stat(n.Journal())
		if statErr != nil || late {
			return err
		}
		time.Sleep(watchInterval) //nolint:forbidigo // another process's lock causes no event
	}
}
