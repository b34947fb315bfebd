package keeper

import (
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

	"github.com/qnet-vm/qnet/netsetup/plan"
)

const (
	guardFlag = "--guard"
	// adoptTime is how long after a keeper's death its VMs' supervisors may take
	// to start the next one. Then the host is put back.
	adoptTime = 1500 * time.Millisecond
	guardPoll = 20 * time.Millisecond
)

// guardProcess is a process that outlives its keeper and puts the host back on its
// NIC when nobody else does: kill -9 of all that is qnet's, or the end of the
// terminal's whole process group, must not leave a host half way.
type guardProcess struct {
	alive *os.File // the end of a pipe that the keeper's death closes
	done  chan struct{}
}

// guardHost starts one where the plan moves the host. A keeper has it from before
// the move to its own end.
func (k *keeper) guardHost(plan plan.Plan) error {
	if !plan.MovesHost() || k.guard != nil {
		return nil
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start guard process: %w", err)
	}
	g := &guardProcess{alive: ours, done: make(chan struct{})}
	if err := g.start(k.paths, k.stateDir, theirs); err != nil {
		ours.Close()
		theirs.Close()
		return fmt.Errorf("start guard process: %w", err)
	}
	k.guard = g
	return nil
}

// start runs a guard, and another when it is killed.
func (g *guardProcess) start(p paths, stateDir string, pipe *os.File) error {
	run := func() (*exec.Cmd, error) {
		own := max(slices.Index(os.Args, "--run-dir"), 1) // before it is what runs Main
		args := slices.Concat(os.Args[1:own], []string{guardFlag, p.runDir, stateDir, p.network})
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
		defer close(g.done)
		for begin := time.Now(); err == nil; cmd, err = run() {
			cmd.Wait() //nolint:errcheck // it ends with us, or was killed
			if time.Since(begin) < time.Second {
				return // it cannot run: not again and again
			}
			begin = time.Now()
		}
	}()
	return nil
}

// guard is the process: it waits for the keeper's end and then sees to it that
// somebody has the network, or nobody needs it.
func guard(args []string, stderr io.Writer) int {
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(memoryLimit)
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGPIPE)
	if len(args) != 3 {
		fmt.Fprintln(stderr, "qnet keeper: the guard is started by a keeper only")
		return 1
	}
	alive := os.NewFile(3, "alive")
	io.Copy(io.Discard, alive) //nolint:errcheck // its end is what is waited for
	if err := watchOver(paths{args[0], args[2]}); err != nil {
		fmt.Fprintf(stderr, "qnet guard: %v\n", err)
		return 1
	}
	return 0
}

// watchOver undoes the network of a dead keeper unless another adopts it in time.
func watchOver(p paths) error {
	for end := time.Now().Add(adoptTime); ; {
		late := time.Now().After(end)
		_, err := collect(p, "", late)
		_, statErr := os.Stat(p.journal())
		if statErr != nil || late {
			return err
		}
		time.Sleep(guardPoll) //nolint:forbidigo // a lock tells nobody that it was taken
	}
}
