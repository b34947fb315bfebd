package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/rundir"
)

// runDirs returns the run directories in which the user's VMs can be.
func (a *app) runDirs() []string { return append([]string{a.runDir}, a.moreRunDirs...) }

// find asks a VM for its state, and returns the run directory that the VM is in. The
// error wraps a *control.ForeignError if the VM of that name is another user's, and else
// control.ErrNotRunning if there is none.
func (a *app) find(ctx context.Context, name string) (s control.State, runDir string, err error) {
	var foreign, none error
	for _, dir := range a.runDirs() {
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
	for _, f := range a.others() {
		if f.VM == name && foreign == nil {
			foreign = f
		}
	}
	if foreign != nil {
		return s, a.runDir, foreign
	}
	return s, a.runDir, none
}

// list returns all VMs whose sockets the user may use, and those of other users.
func (a *app) list(ctx context.Context) (states []control.State, foreign []*control.ForeignError, err error) {
	states = []control.State{}
	for i, dir := range a.runDirs() {
		vms, err := rundir.VMs(dir)
		if err != nil && i == 0 {
			return nil, nil, fmt.Errorf("list VMs: %w", err)
		}
		for _, vm := range vms {
			s, err := control.Find(ctx, dir, vm.Name)
			var f *control.ForeignError
			if errors.As(err, &f) {
				foreign = append(foreign, f)
			} else if err == nil {
				states = append(states, s)
			}
		}
	}
	return states, append(foreign, a.others()...), ctx.Err()
}

// others returns the VMs that other users run without root's rights. Only root sees them.
// Their sockets are not asked: another user could answer with anything.
func (a *app) others() []*control.ForeignError {
	if os.Geteuid() != 0 || a.runDir != rootRunDir {
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
		if err != nil || slices.Contains(a.runDirs(), dir) {
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && vmName.MatchString(filepath.Base(filepath.Dir(socket))) {
			list = append(list, &control.ForeignError{VM: filepath.Base(filepath.Dir(socket)), RunDir: dir, UID: st.Uid})
		}
	}
	return list
}

// tellForeign says which VMs of other users a list leaves out.
func (a *app) tellForeign(list []*control.ForeignError) {
	if len(list) == 0 {
		return
	}
	var vms []string
	for _, f := range list {
		vms = append(vms, fmt.Sprintf("%s (%s)", f.VM, asuser.Name(f.UID)))
	}
	a.talk("note: VMs of other users run: %s; %s", strings.Join(vms, ", "), reachForeign(list[0]))
}

// reachForeign says how to reach another user's VM.
func reachForeign(f *control.ForeignError) string {
	if os.Geteuid() == 0 {
		return fmt.Sprintf("qnet --run-dir %s reaches them", f.RunDir)
	}
	return "sudo qnet reaches them"
}
