package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/internal/supervisor"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu"
)

// Exit codes.
const (
	exitOK         = 0
	exitFailure    = 1
	exitUsage      = 2
	exitIncapable  = 3
	exitQEMU       = 4
	exitInterupted = 130 // as shells word SIGINT
)

// hints say what to do next, by what the error is.
var hints = []struct {
	is   error
	hint string
}{
	{host.ErrNoPermission, `run it with sudo, or use mode = "user", which needs no rights`},
	{host.ErrNoTun, `load the module with "modprobe tun"; in a container, give it --device /dev/net/tun --cap-add NET_ADMIN; or use mode = "user"`},
	{host.ErrNotOurs, `look with "ip -d link" and "nft list tables" at whose it is; name the network or the VM differently, or remove it`},
	{host.ErrUnsupported, `the kernel lacks a feature (bridge, tun or nf_tables): after a kernel upgrade, reboot; "sudo qnet doctor" tells which; else use mode = "user"`},
	{qemu.ErrNotFound, "install QEMU: apt install qemu-system-x86"},
	{qemu.ErrTooOld, "install QEMU 7.2 or newer; Debian 12 has it"},
	{supervisor.ErrRunning, `"qnet ps" lists what runs; --name starts it a second time under another name`},
	{rundir.ErrPathTooLong, "choose a shorter --run-dir or QNET_RUN_DIR"},
	{control.ErrNotRunning, `"qnet ps" lists what runs`},
}

func hintFor(err error) string {
	for _, h := range hints {
		if errors.Is(err, h.is) {
			return h.hint
		}
	}
	var file *supervisor.FileError
	if errors.As(err, &file) && errors.Is(err, fs.ErrPermission) {
		return "the file is opened with your own rights, also under sudo: give yourself access to it"
	}
	var waited *stuck
	if errors.As(err, &waited) && waited.vm.State == control.Running {
		return "sudo qnet doctor --probe " + waited.vm.Profile + " tries its networks with a synthetic guest, and says where packets vanish"
	}
	var none *noAddress
	if errors.As(err, &none) && !none.never {
		return fmt.Sprintf("qnet wait %s waits for it", none.name)
	}
	return ""
}

func exitCode(err error) int {
	var bad profiles.Errors
	var config *qemu.ConfigError
	var file *supervisor.FileError
	var use *usage
	var exit *qemu.ExitError
	var far *farError
	var other *exitStatus
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &far):
		return far.Code
	case errors.As(err, &other):
		return other.code
	case errors.As(err, &bad), errors.As(err, &config), errors.As(err, &file), errors.As(err, &use),
		errors.Is(err, rundir.ErrPathTooLong):
		return exitUsage
	case errors.Is(err, host.ErrNoTun), errors.Is(err, host.ErrNoPermission), errors.Is(err, host.ErrUnsupported),
		errors.Is(err, host.ErrRefused), errors.Is(err, host.ErrNotOurs),
		errors.Is(err, qemu.ErrNotFound), errors.Is(err, qemu.ErrTooOld):
		return exitIncapable
	case errors.As(err, &exit):
		return exitQEMU
	case errors.Is(err, supervisor.ErrInterrupted), errors.Is(err, context.Canceled):
		return exitInterupted
	}
	return exitFailure
}

// report words the error on stderr and returns the exit code.
func (a *app) report(err error) int {
	code := exitCode(err)
	if err == nil || errors.Is(err, errSilent) {
		return code
	}
	a.talk("qnet: %v", err)
	if hint := hintFor(err); hint != "" {
		a.talk("hint: %s", hint)
	}
	return code
}
