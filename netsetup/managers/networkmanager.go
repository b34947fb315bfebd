package managers

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/qnet-vm/qnet/internal/sysbus"
)

// NetworkManager's objects, of its D-Bus API.
const (
	nmPath    = "/org/freedesktop/NetworkManager"
	nmDevices = "org.freedesktop.NetworkManager.GetAllDevices"
	nmLink    = "org.freedesktop.NetworkManager.Device.Interface"
	nmManaged = "org.freedesktop.NetworkManager.Device.Managed"
	nmDHCP    = "org.freedesktop.NetworkManager.Device.Dhcp4Config"
	nmLease   = "org.freedesktop.NetworkManager.DHCP4Config.Options"
)

// SetManaged has NetworkManager manage a link or let go of it. Letting go leaves the
// link as it is, addresses included. SetManaged does nothing where NetworkManager does
// not run or does not know the link. It needs root's rights and takes at most 3 s.
//
//	nmcli device set LINK managed yes|no
func SetManaged(ctx context.Context, link string, managed bool) error {
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	peer, device, err := nmDevice(ctx, link)
	if err != nil {
		return unlessAbsent(parent, err)
	}
	defer peer.Close()
	if err := peer.SetProperty(ctx, device, nmManaged, managed); err != nil {
		return fmt.Errorf("set managed of %q in NetworkManager: %w", link, err)
	}
	return nil
}

// Managed reports whether NetworkManager runs and manages a link. It takes at most 1 s.
func Managed(ctx context.Context, link string) (bool, error) {
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	peer, device, err := nmDevice(ctx, link)
	if err != nil {
		return false, unlessAbsent(parent, err)
	}
	defer peer.Close()
	return sysbus.Property[bool](ctx, peer, device, nmManaged)
}

// nmDevice finds NetworkManager's object for a link. It returns errNone where
// NetworkManager does not know the link. The caller closes the peer.
func nmDevice(ctx context.Context, link string) (*sysbus.Peer, dbus.ObjectPath, error) {
	peer, err := sysbus.Dial(ctx, busNames[NetworkManager])
	if err != nil {
		return nil, "", err
	}
	var paths []dbus.ObjectPath
	if err := peer.Call(ctx, nmPath, nmDevices).Store(&paths); err != nil {
		peer.Close()
		return nil, "", fmt.Errorf("list its devices: %w", err)
	}
	for _, path := range paths {
		// A device may be gone by now.
		if name, err := sysbus.Property[string](ctx, peer, path, nmLink); err == nil && name == link {
			return peer, path, nil
		}
	}
	peer.Close()
	return nil, "", errNone
}

// askNetworkManager finds out whether NetworkManager configures the link, and its lease.
func askNetworkManager(ctx context.Context, l link) (Client, error) {
	c := Client{Program: NetworkManager}
	peer, device, err := nmDevice(ctx, l.name)
	if err != nil {
		return c, err
	}
	defer peer.Close()
	managed, err := sysbus.Property[bool](ctx, peer, device, nmManaged)
	if err != nil || !managed {
		return c, orNone(err)
	}
	lease, err := sysbus.Property[dbus.ObjectPath](ctx, peer, device, nmDHCP)
	if err != nil || lease == "/" {
		return c, err
	}
	options, err := sysbus.Property[map[string]dbus.Variant](ctx, peer, lease, nmLease)
	if err != nil {
		return c, err
	}
	c.Lease, err = l.nmLease(options)
	return c, err
}

// nmLease reads the options of a lease as NetworkManager names them.
func (l link) nmLease(options map[string]dbus.Variant) (HostLease, error) {
	text := func(name string) string {
		s, _ := options[name].Value().(string)
		return s
	}
	lease := HostLease{MAC: l.mac, ClientID: l.defaultID(), Host: hostName()}
	lease.Server, _ = netip.ParseAddr(text("dhcp_server_identifier"))
	var err error
	if lease.Address, err = netip.ParseAddr(text("ip_address")); err != nil {
		return lease, fmt.Errorf("read its lease: %w", err)
	}
	if id := text("dhcp_client_identifier"); id != "" {
		if lease.ClientID, err = hex.DecodeString(strings.ReplaceAll(id, ":", "")); err != nil {
			return lease, fmt.Errorf("read the client identifier of its lease: %w", err)
		}
	}
	return lease, nil
}

// unlessAbsent drops an error that says that NetworkManager has nothing to do with the
// link, unless ctx, the caller's, has ended: then nothing is known.
func unlessAbsent(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("ask on the system bus: %w", context.Cause(ctx))
	case errors.Is(err, errNone), sysbus.Absent(err):
		return nil
	}
	return err
}
