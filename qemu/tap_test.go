package qemu_test

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/qemu"
	"github.com/qnet-vm/qnet/qemu/machine"
)

// openTap returns the queues of a tap in a network namespace of its own, which
// lives as long as they do.
func openTap(t *testing.T, queues int) []*os.File {
	t.Helper()
	lab.Require(t, lab.Tun)
	type opened struct {
		files []*os.File
		err   error
	}
	done := make(chan opened)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread goes with its namespace
		var o opened
		defer func() { done <- o }()
		if o.err = unix.Unshare(unix.CLONE_NEWNET); o.err != nil {
			return
		}
		for range queues {
			f, err := openQueue("qntest0", queues > 1)
			if err != nil {
				o.err = err
				return
			}
			o.files = append(o.files, f)
		}
	}()
	o := <-done
	t.Cleanup(func() {
		for _, f := range o.files {
			_ = f.Close()
		}
	})
	if o.err != nil {
		t.Fatal(o.err)
	}
	return o.files
}

func openQueue(name string, multi bool) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("open /dev/net/tun", err)
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if multi {
		flags |= unix.IFF_MULTI_QUEUE
	}
	req.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return nil, os.NewSyscallError("TUNSETIFF", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func TestTapsReachQEMU(t *testing.T) {
	lab.Require(t, lab.Root)
	c := config(requireQEMU(t))
	c.NICs = []machine.NIC{
		{MAC: mac, Taps: openTap(t, 2), MTU: 9000},
		{MAC: mac, Taps: openTap(t, 1)},
		{MAC: mac, Taps: openTap(t, 1), Model: "e1000e"},
	}
	vm := start(t, c, qemu.StartOptions{Credential: nobody})
	if err := vm.Cont(t.Context()); err != nil {
		t.Fatal(err)
	}
	var info string
	args := map[string]string{"command-line": "info network"}
	if err := vm.Monitor().Execute(t.Context(), "human-monitor-command", args, &info); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(info, "type=tap,fd="); got != 4 {
		t.Errorf("got %d queues, want 4:\n%s", got, info)
	}
	var mtu int
	args = map[string]string{"path": "/machine/peripheral/nic0", "property": "host_mtu"}
	if err := vm.Monitor().Execute(t.Context(), "qom-get", args, &mtu); err != nil || mtu != 9000 {
		t.Errorf("got MTU %d, %v", mtu, err)
	}
	if got := strings.Count(strings.Join(openFiles(t, "/proc/self"), "\n"), "/dev/net/tun"); got != 4 {
		t.Errorf("the caller holds %d taps, want its 4 still", got)
	}
}
