package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

const tunDevice = "/dev/net/tun"

// OpenTun opens a file of which AddTap makes a tap, in the network namespace of the process
// that opens it. It needs no rights but those of the device's mode, 0666 on most hosts. It
// returns ErrNoTun where there is no such device, no driver behind it, or where the device
// cgroup forbids it, and ErrNoPermission where the mode does.
func OpenTun() (*os.File, error) {
	f, err := os.OpenFile(tunDevice, os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, host.ErrNoTun
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return nil, host.OfKind(host.ErrNoTun, "%s is there, and no driver behind it: %w", tunDevice, errors.Unwrap(err))
	case errors.Is(err, unix.EPERM):
		return nil, host.OfKind(host.ErrNoTun, "the device cgroup of this process forbids %s: %w", tunDevice, errors.Unwrap(err))
	case errors.Is(err, unix.EACCES):
		return nil, fmt.Errorf("%w: %w", host.ErrNoPermission, err)
	}
	return f, err
}

// GiveTap makes the next AddTap of that name use these files, one per queue, instead of
// opening its own. An empty list cancels that. It deletes a tap that a dead process made of
// the files. The caller may close the files after AddTap.
func (h *Host) GiveTap(ctx context.Context, name string, files []*os.File) error {
	delete(h.given, name)
	if len(files) == 0 {
		return nil
	}
	for _, f := range files {
		if err := isTun(f); err != nil {
			return fmt.Errorf("take file for tap %q: %w", name, err)
		}
	}
	old, _ := unix.NewIfreq("")
	if tunIoctl(files[0], unix.TUNGETIFF, old) == nil && old.Name() == name {
		if err := h.DelLinks(ctx, []string{name}); err != nil {
			return err
		}
	}
	h.given[name] = files
	return nil
}

// isTun refuses a file that is not one of the tun device: character device 10:200 in the
// kernel's Documentation/admin-guide/devices.txt. It does not ask the file's file system, which
// may be one in user space that never answers.
func isTun(f *os.File) error {
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev_major != 10 || st.Rdev_minor != 200 {
		return host.Refuse("it is no file of %s: report this as a fault of qnet", tunDevice)
	}
	return nil
}

// AddTap makes a tap that ends with its last file, and marks it. IFF_VNET_HDR gives QEMU
// segmentation offload. The tap uses the files of GiveTap, or a new one that TakeTap returns.
// It is EBUSY if a tap of that name exists (IFF_TUN_EXCL).
//
//	ip tuntap add NAME mode tap user root group root vnet_hdr
//	ip link set NAME alias ALIAS mtu MTU
func (h *Host) AddTap(ctx context.Context, name, alias string, mtu int) error {
	files := h.given[name]
	delete(h.given, name)
	if files == nil {
		f, err := OpenTun()
		if err != nil {
			return fmt.Errorf("add tap %q: %w", name, err)
		}
		files, h.taps[name] = []*os.File{f}, f
	}
	if err := attachTap(name, files); err != nil {
		return fmt.Errorf("add tap %q: %w", name, host.Explain(err))
	}
	err := rtnl.Send(rtnl.SetLink(name, rtnl.Attr{Type: unix.IFLA_IFALIAS, Value: []byte(alias)}, rtnl.Uint32(unix.IFLA_MTU, uint32(mtu))))
	if err != nil {
		return host.Explain(err)
	}
	return h.hold(name, files[0])
}

// TakeTap returns the file of a tap or macvtap that this Host made of no given file, nil if
// there is none. The caller closes the file. The tap lives as long as one of its files is
// open.
func (h *Host) TakeTap(name string) *os.File {
	f := h.taps[name]
	delete(h.taps, name)
	return f
}

// hold keeps a given tap until DelLinks or Close, also after QEMU closed its file. Without
// that, the kernel would delete the tap when QEMU ends, and the bridge later: rcu_barrier
// (kernel/rcu/tree.c) serves one caller after the other, so their grace periods would add up.
func (h *Host) hold(name string, f *os.File) error {
	if h.taps[name] == f {
		return nil
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("hold tap %q: %w", name, err)
	}
	h.letGo(name)
	h.held[name] = os.NewFile(uintptr(fd), name)
	return nil
}

// letGo closes the file of hold, which may be before or after the tap's end.
func (h *Host) letGo(name string) {
	if f := h.held[name]; f != nil {
		f.Close()
		delete(h.held, name)
	}
}

// attachTap makes a tap with one queue per file.
func attachTap(name string, files []*os.File) error {
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if len(files) > 1 {
		flags |= unix.IFF_MULTI_QUEUE
	}
	for i, f := range files {
		req, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		if req.SetUint16(flags); i == 0 {
			req.SetUint16(flags | unix.IFF_TUN_EXCL)
		}
		if err := tunIoctl(f, unix.TUNSETIFF, req); err != nil {
			return err
		}
	}
	// Only root may attach to the tap.
	for _, owner := range []uint{unix.TUNSETOWNER, unix.TUNSETGROUP} {
		if err := unix.IoctlSetInt(int(files[0].Fd()), owner, 0); err != nil {
			return err
		}
	}
	return nil
}

func tunIoctl(f *os.File, what uint, req *unix.Ifreq) error {
	return unix.IoctlIfreq(int(f.Fd()), what, req)
}
