package place

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/internal/supervisor"
	"github.com/qnet-vm/qnet/internal/vmdir"
)

// runDirs returns the run directories in which the user's VMs can be.
func (p *Places) runDirs() []string { return append([]string{p.Run}, p.More...) }

// Find asks a VM for its state, and returns the run directory that the VM is in. The
// error wraps a *control.ForeignError if the VM of that name is another user's, and else is a
// *NotRunning if there is none.
func (p *Places) Find(ctx context.Context, name string) (s control.State, runDir string, err error) {
	var foreign, none error
	for _, dir := range p.runDirs() {
		s, err := control.Find(ctx, dir, name)
		var f *control.ForeignError
		switch {
		case err == nil:
			return s, dir, nil
		case errors.As(err, &f):
			foreign = err
		case !errors.Is(err, control.ErrNotRunning):
			return s, dir, err
		default:
			none = err
		}
	}
	for _, f := range p.foreign() {
		if f.VM == name && foreign == nil {
			foreign = f
		}
	}
	if foreign != nil {
		return s, p.Run, foreign
	}
	return s, p.Run, p.notRunning(name, none)
}

// NotRunning tells that a VM does not run, and what is kept of it. It wraps
// control.ErrNotRunning.
type NotRunning struct {
	VM          string
	Saved, Kept bool // it was suspended to disk; a run by its name goes on with its disk
	Err         error
}

// notRunning looks for what is kept of the VM, with the user's rights.
func (p *Places) notRunning(name string, err error) error {
	dir, bad := vmdir.New(p.VMs, name)
	if bad != nil {
		return err
	}
	e := &NotRunning{VM: name, Err: err}
	look := p.user.Do(func() error {
		e.Saved = dir.Suspended()
		_, err := dir.Load()
		return err
	})
	e.Kept = look == nil
	return e
}

// Error says so.
func (e *NotRunning) Error() string {
	if e.Saved {
		return fmt.Sprintf("VM %q: it is saved, and does not run", e.VM)
	}
	return e.Err.Error()
}

// Unwrap returns the cause.
func (e *NotRunning) Unwrap() error { return e.Err }

// Hint says how it runs again; "" for a VM that nothing is known of.
func (e *NotRunning) Hint() string {
	switch {
	case e.Saved:
		return fmt.Sprintf("qnet resume %s lets it go on", e.VM)
	case e.Kept:
		return fmt.Sprintf("qnet start %s runs it", e.VM)
	}
	return ""
}

// List returns all VMs whose sockets the user may use, and those of other users.
func (p *Places) List(ctx context.Context) (states []control.State, others []*control.ForeignError, err error) {
	states = []control.State{}
	for i, dir := range p.runDirs() {
		vms, err := rundir.VMs(dir)
		if err != nil && i == 0 {
			return nil, nil, fmt.Errorf("list VMs: %w", err)
		}
		for _, vm := range vms {
			s, err := control.Find(ctx, dir, vm.Name)
			var f *control.ForeignError
			if errors.As(err, &f) {
				others = append(others, f)
			} else if err == nil {
				states = append(states, s)
			}
		}
	}
	return states, append(others, p.foreign()...), ctx.Err()
}

// foreign returns the VMs that other users run without root's rights. Only root sees them.
// Their sockets are not asked: another user could answer with anything.
func (p *Places) foreign() []*control.ForeignError {
	if os.Geteuid() != 0 || p.Run != RootRunDir {
		return nil
	}
	sockets, err := filepath.Glob(filepath.Join(userRunDirs, "*", "qnet", "vms", "*", "control.sock"))
	if err != nil {
		return nil
	}
	var list []*control.ForeignError
	for _, socket := range sockets {
		dir := filepath.Dir(filepath.Dir(filepath.Dir(socket)))
		info, err := os.Lstat(socket)
		if err != nil || slices.Contains(p.runDirs(), dir) {
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && isPlain(filepath.Base(filepath.Dir(socket))) {
			list = append(list, &control.ForeignError{VM: filepath.Base(filepath.Dir(socket)), RunDir: dir, UID: st.Uid})
		}
	}
	return list
}

// Foreign says which VMs of other users a list leaves out.
func Foreign(list []*control.ForeignError) string {
	var vms []string
	for _, f := range list {
		vms = append(vms, fmt.Sprintf("%s (%s)", f.VM, asuser.Name(f.UID)))
	}
	return fmt.Sprintf("note: VMs of other users run: %s; %s", strings.Join(vms, ", "), list[0].Hint())
}

// isPlain reports whether a name, which another user chose, has only letters, digits and
// "-": it goes to a terminal.
func isPlain(name string) bool {
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// OpenLog opens the log of one of the user's VMs: of one that runs or ran without root's
// rights, or of one that the user started with sudo.
func (p *Places) OpenLog(name string) (*os.File, error) {
	dirs := []string{p.State, p.RootState}
	if p.user != nil && p.State == RootStateDir {
		dirs = append(dirs, p.homeState())
	}
	for _, dir := range dirs {
		path := supervisor.LogPath(dir, name)
		f, err := os.Open(path)
		switch info, statErr := os.Lstat(path); {
		case dir == "", errors.Is(err, fs.ErrNotExist):
			continue
		case errors.Is(err, fs.ErrPermission) && statErr == nil:
			st, _ := info.Sys().(*syscall.Stat_t) // Linux gives no other
			return nil, &control.ForeignError{VM: name, RunDir: p.Run, UID: st.Uid}
		case errors.Is(err, fs.ErrPermission):
			return nil, fmt.Errorf("read log of VM %q: %w; sudo qnet logs %s shows it", name, err, name)
		default:
			return f, err
		}
	}
	return nil, fmt.Errorf("read log of VM %q: it never ran here", name)
}

// Traces lists where a VM's logs and the host keys that ssh knows of it can be, in all state
// directories of the user. They need not exist.
func (p *Places) Traces(name string) []string {
	dirs := []string{p.State, p.RootState}
	if p.user != nil {
		dirs = append(dirs, p.homeState())
	}
	var list []string
	for _, dir := range dirs {
		if dir != "" {
			list = append(list, filepath.Dir(supervisor.LogPath(dir, name)), filepath.Join(dir, "known_hosts.d", name))
		}
	}
	return list
}
