package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/cli/scarce"
	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/disks"
	"github.com/qnet-vm/qnet/internal/firstboot"
	"github.com/qnet-vm/qnet/internal/hardware"
	"github.com/qnet-vm/qnet/internal/images"
	"github.com/qnet-vm/qnet/internal/legible"
	"github.com/qnet-vm/qnet/internal/reachable"
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/internal/supervisor"
	"github.com/qnet-vm/qnet/internal/vmdir"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu"
	"github.com/qnet-vm/qnet/qemu/firmware"
	"github.com/qnet-vm/qnet/qemu/imagelock"
	"github.com/qnet-vm/qnet/qemu/machine"
	"github.com/qnet-vm/qnet/qemu/program"
)

// Exit codes.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitIncapable   = 3
	exitQEMU        = 4
	exitInterrupted = 130 // as shells report SIGINT
)

// hints say what to do next about an error. The first that applies is printed.
var hints = []struct {
	is   error
	hint string
}{
	{control.ErrNotUndone, `"sudo qnet gc" tries again to undo it`},
	{control.ErrDied, `"sudo qnet gc" undoes what it left`},
	{host.ErrNoSysctls, `in a container, run it with --privileged or --security-opt systempaths=unconfined; "sudo qnet doctor" tells more; or use mode = "user"`},
	{host.ErrNoPermission, `run it with sudo, in a container give it --cap-add NET_ADMIN --cap-add NET_RAW, or use mode = "user", which needs no rights`},
	{host.ErrNoTun, `load the module with "modprobe tun"; in a container, give it --device /dev/net/tun --cap-add NET_ADMIN; or use mode = "user"`},
	{host.ErrNotOurs, `look with "ip -d link" and "nft list tables" at whose it is; name the network or the VM differently, or remove it`},
	{host.ErrUnsupported, `the kernel lacks a feature (bridge, tun or nf_tables): after a kernel upgrade, reboot; "sudo qnet doctor" tells which; else use mode = "user"`},
	{program.ErrNotFound, "install QEMU: apt install qemu-system-x86"},
	{program.ErrTooOld, "install QEMU 7.2 or newer; Debian 12 has it"},
	{supervisor.ErrRunning, `"qnet ps" lists what runs; --name starts it a second time under another name`},
	{vmdir.ErrInUse, `"qnet ls" shows whether it runs; --name runs a second one beside it`},
	{imagelock.ErrInUse, `stop what uses it; VMs share an image only where each of them has it readonly or with snapshot`},
	{rundir.ErrPathTooLong, "choose a shorter --run-dir or QNET_RUN_DIR"},
}

// hintFor returns the hint about an error, "" without one.
func hintFor(err error) string {
	for _, h := range hints {
		if errors.Is(err, h.is) {
			return h.hint
		}
	}
	var own interface{ Hint() string }
	notRunning := errors.Is(err, control.ErrNotRunning)
	if errors.As(err, &own) && (own.Hint() != "" || !notRunning) {
		return own.Hint() // "" for a disk on a read-only file system, of which no option helps
	}
	if notRunning {
		return `"qnet ps" lists what runs, "qnet ls" also what was stopped or saved`
	}
	return scarce.Hint(err)
}

// exitCode returns the exit code for an error. A failed undo never ends with 0.
func exitCode(err error) int {
	var bad profiles.Errors
	var config *machine.ConfigError
	var vars *firmware.VarsError
	var guest *firstboot.Mistake
	var file *hardware.FileError
	var use *call.Usage
	var exit *qemu.ExitError
	var far *farError
	var other *call.ExitStatus
	var unusable *rundir.Unusable
	var image *images.UnknownError
	var disk *disks.Error
	var taken *vmdir.TakenError
	var outside *reachable.Error
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &far):
		return far.Code
	case errors.As(err, &other):
		return other.Code
	case (errors.Is(err, control.ErrNotUndone) || errors.Is(err, host.ErrLeft)) && !errors.As(err, &exit):
		return exitFailure // whatever kept the undo from it
	case errors.As(err, &unusable) && unusable.Full():
		return exitIncapable
	case errors.As(err, &unusable), errors.As(err, &bad), errors.As(err, &config), errors.As(err, &guest), errors.As(err, &vars), errors.As(err, &file), errors.As(err, &use),
		errors.As(err, &image), errors.As(err, &disk), errors.As(err, &taken), errors.As(err, &outside), errors.Is(err, rundir.ErrPathTooLong):
		return exitUsage
	case errors.Is(err, host.ErrNoTun), errors.Is(err, host.ErrNoPermission), errors.Is(err, host.ErrUnsupported),
		errors.Is(err, host.ErrRefused), errors.Is(err, host.ErrNotOurs), errors.Is(err, host.ErrNoSysctls),
		errors.Is(err, program.ErrNotFound), errors.Is(err, program.ErrTooOld), errors.Is(err, program.ErrLack):
		return exitIncapable
	case errors.As(err, &exit):
		return exitQEMU
	case errors.Is(err, supervisor.ErrInterrupted), errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	return exitFailure
}

// message is an error as the user reads it.
type message struct {
	Text    string `json:"text"`
	Command string `json:"command,omitempty"` // of the step that failed, as an administrator types it
	Hint    string `json:"hint,omitempty"`
	Code    int    `json:"code"` // exit code
}

// messageOf returns what to print of an error. A message that another process of qnet
// made stays as it is.
func messageOf(err error) message {
	var far *farError
	if errors.As(err, &far) {
		return far.message
	}
	return message{strings.NewReplacer(oddPaths(err)...).Replace(err.Error()), keeper.FailedCommand(err), hintFor(err), exitCode(err)}
}

// oddPaths returns the paths in an error that have what drives a terminal or begins a line, each
// with its legible form behind it: package os prints them as they are.
func oddPaths(err error) (pairs []string) {
	add := func(paths ...string) {
		for _, p := range paths {
			if l := legible.Text(p); l != p {
				pairs = append(pairs, p, l)
			}
		}
	}
	switch e := err.(type) { //nolint:errorlint // each error of the tree is looked at by itself
	case *fs.PathError:
		add(e.Path)
	case *os.LinkError:
		add(e.Old, e.New)
	case interface{ Unwrap() []error }:
		for _, each := range e.Unwrap() {
			pairs = append(pairs, oddPaths(each)...)
		}
	}
	if below := errors.Unwrap(err); below != nil {
		pairs = append(pairs, oddPaths(below)...)
	}
	return pairs
}

// String returns the lines to print. Of a command of many lines, such as an nft table,
// it shows the first.
func (m message) String() string {
	lines := []string{"qnet: " + m.Text}
	if first, _, more := strings.Cut(m.Command, "\n"); more {
		lines = append(lines, fmt.Sprintf("command: %s ... (qnet plan shows all of it)", first))
	} else if m.Command != "" {
		lines = append(lines, "command: "+m.Command)
	}
	if m.Hint != "" {
		lines = append(lines, "hint: "+m.Hint)
	}
	return strings.Join(lines, "\n")
}

// report prints the error on stderr and returns the exit code.
func (a *app) report(err error) int {
	if err == nil || errors.Is(err, call.ErrSilent) {
		return exitCode(err)
	}
	m := messageOf(err)
	a.Talk("%s", m)
	return m.Code
}
