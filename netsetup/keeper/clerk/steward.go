package clerk

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/netsetup/keeper"
)

// serveFlag is the argument of a clerk, in place of the steward's keeper.StewardFlag.
const serveFlag = "--clerk"

// IsProcess reports whether the arguments are those of a steward or a clerk.
func IsProcess(args []string) bool {
	return len(args) == 1 && (args[0] == keeper.StewardFlag || args[0] == serveFlag)
}

// Main is the process of a steward or a clerk. It returns the exit code.
func Main(args []string) int {
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(memoryLimit)
	// They end with the keeper, which says so by the end of its socket.
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGPIPE, unix.SIGTERM)
	conn, err := connOf(os.NewFile(fdKeeper, "keeper"))
	if err != nil {
		return 2
	}
	defer conn.Close()
	if args[0] == serveFlag {
		err = serve(conn)
	} else {
		unix.Close(fdDHCP) //nolint:errcheck // qnet's binary, of which the supervisor started it
		err = (&steward{keeper: conn, ended: make(chan string)}).run()
	}
	if err != nil {
		return 1
	}
	return 0
}

// memoryLimit is what either tries to stay below, in bytes.
const memoryLimit = 16 << 20

// steward starts clerks.
type steward struct {
	keeper *net.UnixConn
	clerk  *exec.Cmd   // nil while none runs
	ended  chan string // how the clerk ended
}

// received is a call of the keeper's with its files.
type received struct {
	call
	files []*os.File
}

// run does what the keeper asks for until the keeper is gone, and then ends the clerk.
func (r *steward) run() error {
	if err := failpoint.Hit("steward runs"); err != nil {
		return err
	}
	calls := make(chan received)
	go r.hear(calls) // it ends with the keeper's socket
	for {
		select {
		case c, ok := <-calls:
			if !ok {
				r.end()
				return nil
			}
			err := r.heed(c)
			if err != nil {
				err = keeper.Send(r.keeper, ended{How: err.Error()})
			}
			if err != nil {
				r.end()
				return err
			}
		case how := <-r.ended:
			r.clerk = nil
			err := failpoint.Hit("steward saw the end of a clerk")
			if err == nil {
				err = keeper.Send(r.keeper, ended{How: how})
			}
			if err != nil {
				return err
			}
		}
	}
}

func (r *steward) hear(calls chan<- received) {
	defer close(calls)
	for {
		c, err := receive(r.keeper)
		if err != nil {
			keeper.CloseAll(c.files)
			return
		}
		calls <- c
	}
}

// receive receives a call of the keeper's, which is trusted.
func receive(conn *net.UnixConn) (received, error) {
	var c received
	b, oob := make([]byte, 1024), make([]byte, unix.CmsgSpace(4*(fdMore-fdKeeper+maxGiven)))
	n, oobn, _, _, err := conn.ReadMsgUnix(b, oob)
	if err == nil && n == 0 {
		err = net.ErrClosed
	}
	if err != nil {
		return c, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	for _, m := range messages {
		fds, rightsErr := unix.ParseUnixRights(&m)
		err = errors.Join(err, rightsErr)
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			c.files = append(c.files, os.NewFile(uintptr(fd), "clerk's"))
		}
	}
	return c, errors.Join(err, json.Unmarshal(b[:n], &c.call))
}

func (r *steward) heed(c received) error {
	defer keeper.CloseAll(c.files)
	if !c.Start {
		r.kill()
		return nil
	}
	if r.clerk != nil {
		return errors.New("a clerk runs already")
	}
	if err := r.start(c.files); err != nil {
		return err
	}
	err := failpoint.Hit("steward started a clerk")
	if err != nil {
		r.end()
		r.clerk = nil
	}
	return err
}

func (r *steward) kill() {
	if r.clerk != nil {
		r.clerk.Process.Kill() //nolint:errcheck // it fails for one that has ended
	}
}

// end ends the clerk and waits for its end.
func (r *steward) end() {
	r.kill()
	if r.clerk != nil {
		<-r.ended
	}
}

// start starts a clerk with the files from descriptor 3 on. The thread that starts it lives
// as long: with it the kernel would kill the clerk (PR_SET_PDEATHSIG).
func (r *steward) start(files []*os.File) error {
	own := slices.Index(os.Args, keeper.StewardFlag) // before it are the words that run Main
	cmd := exec.Command("/proc/self/exe", append(slices.Clone(os.Args[1:own]), serveFlag)...)
	cmd.ExtraFiles, cmd.Dir, cmd.Env = files, "/", []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait() //nolint:errcheck // the state says it
			r.ended <- cmd.ProcessState.String()
		}
	}()
	err := <-started
	if err == nil {
		r.clerk = cmd
	}
	return err
}
