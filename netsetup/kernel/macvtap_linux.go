package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// maxMacvtapTries bounds the links that AddMacvtap makes until one has a device.
const maxMacvtapTries = 32

// AddMacvtap makes a macvtap link on the uplink and keeps the file of its device for TakeTap:
// /dev/tapN, N being the link's index. devtmpfs has no network namespaces: where another one
// has a macvtap link of the same index, /dev/tapN is that link's, and this link has no
// device. AddMacvtap then deletes the link and makes another, which gets another index.
//
// The link passes all multicast: IPv6 needs some, and the guest cannot tell the link which
// groups it has joined.
//
//	ip link add link UPLINK name NAME address MAC type macvtap mode bridge
//	ip link set NAME alias ALIAS
//	ip link set NAME allmulticast on
func (h *Host) AddMacvtap(ctx context.Context, m step.AddMacvtap) error {
	for tries := 1; ; tries++ {
		index, err := h.addMacvtap(ctx, m)
		if err != nil {
			return err
		}
		file, err := openMacvtap(m.Name, index)
		if err == nil {
			h.taps[m.Name] = file
			return nil
		}
		err = fmt.Errorf("open macvtap %q: %w", m.Name, err)
		if !errors.Is(err, step.ErrNoTapDevice) || tries == maxMacvtapTries {
			return err // Undo deletes the link
		}
		if err := h.DelLinks(ctx, []string{m.Name}); err != nil {
			return err
		}
	}
}

func (h *Host) addMacvtap(ctx context.Context, m step.AddMacvtap) (index int, err error) {
	up, ok, err := h.Link(ctx, m.Uplink)
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, host.Refuse("add macvtap %q: there is no link %q: set uplink to one that exists", m.Name, m.Uplink)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.HardwareAddr = m.Name, up.Index, m.MAC
	link := &netlink.Macvtap{Macvlan: netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}}
	if err := netlink.LinkAdd(link); err != nil {
		return 0, fmt.Errorf("add macvtap %q on %s: %w", m.Name, m.Uplink, host.Explain(err))
	}
	if err := h.setAlias(m.Name, m.Alias); err != nil {
		return 0, err
	}
	err = h.withLink("set all multicast of", m.Name, func(l netlink.Link) error {
		index = l.Attrs().Index
		return netlink.LinkSetAllmulticastOn(l)
	})
	return index, err
}

// openMacvtap opens the device of the link with that name and index, with IFF_VNET_HDR as
// for taps. It needs root's rights on files, but no capability. It is ErrNoTapDevice where the
// device is another link's.
func openMacvtap(name string, index int) (*os.File, error) {
	device, err := os.ReadFile(fmt.Sprintf("/sys/class/net/%s/tap%d/dev", name, index))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", step.ErrNoTapDevice, err)
	}
	fd, err := unix.Open(fmt.Sprintf("/dev/tap%d", index), unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) {
		return nil, fmt.Errorf("%w: /dev/tap%d: %w", step.ErrNoTapDevice, index, err)
	}
	if err != nil {
		return nil, fmt.Errorf("/dev/tap%d: %w", index, host.Explain(err))
	}
	file := os.NewFile(uintptr(fd), name)
	err = isDevice(fd, strings.TrimSpace(string(device)))
	if err == nil {
		err = setMacvtapFlags(fd)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// isDevice returns ErrNoTapDevice unless the file is the character device MAJOR:MINOR.
func isDevice(fd int, device string) error {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return err
	}
	got := fmt.Sprintf("%d:%d", unix.Major(stat.Rdev), unix.Minor(stat.Rdev))
	if stat.Mode&unix.S_IFMT != unix.S_IFCHR || got != device {
		return fmt.Errorf("%w: it is %s, the one found is %s, of another network namespace", step.ErrNoTapDevice, device, got)
	}
	return nil
}

func setMacvtapFlags(fd int) error {
	req, err := unix.NewIfreq("")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return fmt.Errorf("set flags: %w", err)
	}
	return nil
}
