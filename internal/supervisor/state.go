package supervisor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lockfile"
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/guestwatch"
)

// Errors a caller may test for.
var (
	ErrRunning    = errors.New("it is running already")
	ErrNotRunning = errors.New("it is not running")
)

// State describes a VM.
type State struct {
	Name    string    `json:"name"`
	State   string    `json:"state"` // "starting", "running" or "stopping"
	Profile string    `json:"profile"`
	Accel   string    `json:"accel,omitempty"`
	PID     int       `json:"pid"`            // the supervisor's
	QEMU    int       `json:"qemu,omitempty"` // QEMU's pid
	Started time.Time `json:"started"`
	NICs    []NIC     `json:"nics"`
}

// NIC describes one NIC of a VM.
type NIC struct {
	Index   int    `json:"index"`
	Mode    string `json:"mode"`
	Network string `json:"network,omitempty"`
	Bridge  string `json:"bridge,omitempty"`
	Tap     string `json:"tap,omitempty"`
	MAC     string `json:"mac"`
	Address string `json:"address,omitempty"` // host-only and nat: the one reserved for it

	Seen guestwatch.State `json:"seen,omitzero"` // what the guest does on it
}

// Addresses are those the guest uses, as far as it showed: the last first, and
// IPv4 before IPv6. The reserved one comes first once the guest took it.
func (n NIC) Addresses() []netip.Addr {
	list := slices.Clone(n.Seen.Addresses)
	reserved, err := netip.ParseAddr(n.Address)
	if i := slices.Index(list, reserved); err == nil && i > 0 {
		list = slices.Insert(slices.Delete(list, i, i+1), 0, reserved)
	}
	return list
}

func logDir(stateDir, name string) string { return filepath.Join(stateDir, "logs", name) }

// LogPath is the file that keeps a VM's console, also after its end.
func LogPath(stateDir, name string) string {
	return filepath.Join(logDir(stateDir, name), "console.log")
}

// List returns the VMs of a run directory whose supervisor lives and may be
// asked by the caller.
func List(runDir string) ([]State, error) {
	vms, err := rundir.VMs(runDir)
	if err != nil {
		return nil, fmt.Errorf("list VMs: %w", err)
	}
	states := []State{}
	for _, vm := range vms {
		s, err := Find(runDir, vm.Name)
		if err == nil {
			states = append(states, s)
		}
	}
	return states, nil
}

// Find asks a VM for its state. The error wraps ErrNotRunning where there is none.
func Find(runDir, name string) (State, error) {
	c, err := call(rundir.VM{RunDir: runDir, Name: name}, request{Op: "status"})
	if err != nil {
		return State{}, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	var s State
	if err := json.NewDecoder(c).Decode(&s); err != nil {
		return State{}, fmt.Errorf("ask VM %q: %w", name, err)
	}
	return s, nil
}

// StopOptions say how to stop a VM.
type StopOptions struct {
	Force   bool          // do not ask the guest
	Timeout time.Duration // for the guest to shut down; 0 is 30 s
	Report  func(string)  // gets each rung of the ladder; may be nil
	Ended   func()        // called when QEMU is gone, and the rest is being undone; may be nil
}

// Stop stops a VM and returns when everything of it is undone.
func Stop(ctx context.Context, runDir, name string, o StopOptions) error {
	c, err := call(rundir.VM{RunDir: runDir, Name: name}, request{Op: "stop", Force: o.Force, Timeout: o.Timeout})
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	for answers := json.NewDecoder(c); ; {
		var a answer
		if err := answers.Decode(&a); err != nil {
			// The supervisor's end is the answer: the kernel closes the connection then.
			return ctx.Err()
		}
		if a.Error != "" {
			return fmt.Errorf("stop VM %q: %s", name, a.Error)
		}
		if o.Ended != nil && a.Ended {
			o.Ended()
		}
		if o.Report != nil && a.Rung != "" {
			o.Report(a.Rung)
		}
	}
}

// Console connects in and out to a VM's console until either ends.
func Console(ctx context.Context, runDir, name string, in io.Reader, out io.Writer) error {
	c, err := call(rundir.VM{RunDir: runDir, Name: name}, request{Op: "console"})
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	go func() {
		io.Copy(c, in) //nolint:errcheck // the end of either side ends the console
		c.Close()
	}()
	_, err = io.Copy(out, c)
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func call(vm rundir.VM, r request) (*net.UnixConn, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: vm.Socket(), Net: "unix"})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, fmt.Errorf("VM %q: %w", vm.Name, ErrNotRunning)
	}
	if err != nil {
		return nil, fmt.Errorf("ask VM %q: %w", vm.Name, err)
	}
	b, err := json.Marshal(r)
	if err == nil {
		_, err = c.Write(append(b, '\n'))
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("ask VM %q: %w", vm.Name, err)
	}
	return c, nil
}

// Collect removes the directories of dead supervisors and names their VMs.
func Collect(runDir string) ([]string, error) {
	vms, err := rundir.VMs(runDir)
	if err != nil {
		return nil, fmt.Errorf("list VMs: %w", err)
	}
	var removed []string
	var errs []error
	for _, vm := range vms {
		err := vm.Collect()
		switch {
		case errors.Is(err, lockfile.ErrHeld):
		case err != nil:
			errs = append(errs, err)
		default:
			removed = append(removed, "VM "+vm.Name)
		}
	}
	return removed, errors.Join(errs...)
}

// request is the first line of a control connection.
type request struct {
	Op      string        `json:"op"` // "status", "stop" or "console"
	Force   bool          `json:"force,omitempty"`
	Timeout time.Duration `json:"timeout,omitempty"` // nanoseconds
}

// answer is a line of the answer to "stop".
type answer struct {
	Rung  string `json:"rung,omitempty"`
	Ended bool   `json:"ended,omitempty"`
	Error string `json:"error,omitempty"`
}

// readRequest reads the first line and leaves the rest in the reader.
func readRequest(r *bufio.Reader) (request, error) {
	var req request
	line, err := r.ReadSlice('\n')
	if err != nil {
		return req, err
	}
	return req, json.Unmarshal(line, &req)
}
