package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/host"
)

const tunDevice = "/dev/net/tun"

// OpenTun opens a file that AddTap makes a tap of. It takes no rights; the tap is
// of the network namespace it was opened in. It returns ErrNoTun where there is no
// such device.
func OpenTun() (*os.File, error) {
	f, err := os.OpenFile(tunDevice, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, host.ErrNoTun
	}
	return f, err
}

// GiveTap gives the files, one for each queue, that AddTap shall make the tap of
// that name of, in place of one of its own; none takes that back. A tap that a dead
// Host made of them is deleted. The caller may close the files after AddTap.
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

// isTun refuses what is not a file of the tun device (10, 200 in
// Documentation/admin-guide/devices.txt).
func isTun(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(10, 200) {
		return host.Refuse("it is none of %s", tunDevice)
	}
	return nil
}

// AddTap makes a non-persistent tap with IFF_VNET_HDR, which gives QEMU
// segmentation offload, and marks it. Its file is the one of GiveTap, or one that is
// kept for TakeTap. TUN_EXCL refuses a name in use.
//
//	ip tuntap add NAME mode tap user root group root vnet_hdr
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
	err := setLink(name, nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(alias)), nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(mtu))))
	if err != nil {
		return fmt.Errorf("set alias and mtu of %q: %w", name, host.Explain(err))
	}
	return h.hold(name, files[0])
}

// hold keeps a given tap until DelLinks or Close, whoever else closes its file. Else
// the kernel would end it alone, while QEMU ends, and a bridge's grace periods would
// come after the tap's: rcu_barrier (kernel/rcu/tree.c) serves one caller after
// the other.
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

// letGo closes the file of hold; it may be closed before or after the tap's end.
func (h *Host) letGo(name string) {
	if f := h.held[name]; f != nil {
		f.Close()
		delete(h.held, name)
	}
}

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
	// Nobody but root may attach to it.
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

// setLink changes several attributes of a link in one request.
//
//	ip link set NAME ...
func setLink(name string, attrs ...*nl.RtAttr) error {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	for _, a := range attrs {
		req.AddData(a)
	}
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}
