package managers

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/godbus/dbus/v5"
)

// on returns an object of a program on the system bus, if that runs; the caller
// closes the connection.
func (p Program) on(ctx context.Context, path dbus.ObjectPath) (*dbus.Conn, dbus.BusObject, error) {
	bus, err := SystemBus(ctx)
	if err != nil {
		return nil, nil, err
	}
	owned := false
	err = bus.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, busNames[p]).Store(&owned)
	if err == nil && !owned {
		err = errNone
	}
	if err != nil {
		bus.Close() //nolint:errcheck // nothing was asked
		return nil, nil, err
	}
	return bus, bus.Object(busNames[p], path), nil
}

func property[T any](ctx context.Context, o dbus.BusObject, name string) (T, error) {
	var value T
	i := strings.LastIndex(name, ".")
	var v dbus.Variant
	err := o.CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, name[:i], name[i+1:]).Store(&v)
	if err == nil {
		err = v.Store(&value)
	}
	if err != nil {
		return value, fmt.Errorf("read %s: %w", name, err)
	}
	return value, nil
}

// NetworkManager's objects, of its D-Bus API.
const (
	nmPath    = "/org/freedesktop/NetworkManager"
	nmDevices = "org.freedesktop.NetworkManager.GetAllDevices"
	nmLink    = "org.freedesktop.NetworkManager.Device.Interface"
	nmManaged = "org.freedesktop.NetworkManager.Device.Managed"
	nmDHCP    = "org.freedesktop.NetworkManager.Device.Dhcp4Config"
	nmLease   = "org.freedesktop.NetworkManager.DHCP4Config.Options"
)

// nmDeviceOf finds NetworkManager's object for a link; errNone where it has none.
func nmDeviceOf(ctx context.Context, bus *dbus.Conn, manager dbus.BusObject, link string) (dbus.BusObject, error) {
	var paths []dbus.ObjectPath
	if err := manager.CallWithContext(ctx, nmDevices, 0).Store(&paths); err != nil {
		return nil, fmt.Errorf("list its devices: %w", err)
	}
	for _, path := range paths {
		device := bus.Object(busNames[NetworkManager], path)
		if name, err := property[string](ctx, device, nmLink); err == nil && name == link {
			return device, nil
		}
	}
	return nil, errNone
}

// SetManaged has NetworkManager take care of a link or let go of it, which leaves
// the link as it is, addresses included. It is no error where NetworkManager does
// not run or does not know the link. Root may.
//
//	nmcli device set LINK managed yes|no
func SetManaged(link string, managed bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), reloadTimeout)
	defer cancel()
	device, done, err := nmOpen(ctx, link)
	if err != nil {
		return unlessNone(err)
	}
	defer done()
	i := strings.LastIndex(nmManaged, ".")
	err = device.CallWithContext(ctx, "org.freedesktop.DBus.Properties.Set", 0, nmManaged[:i], nmManaged[i+1:], dbus.MakeVariant(managed)).Err
	if err != nil {
		return fmt.Errorf("set managed of %q in NetworkManager: %w", link, err)
	}
	return nil
}

// Managed reports whether NetworkManager runs and takes care of a link.
func Managed(link string) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	device, done, err := nmOpen(ctx, link)
	if err != nil {
		return false, unlessNone(err)
	}
	defer done()
	return property[bool](ctx, device, nmManaged)
}

func nmOpen(ctx context.Context, link string) (device dbus.BusObject, done func(), err error) {
	bus, manager, err := NetworkManager.on(ctx, nmPath)
	if err != nil {
		return nil, nil, err
	}
	done = func() { bus.Close() } //nolint:errcheck // everything is answered by then
	if device, err = nmDeviceOf(ctx, bus, manager, link); err != nil {
		done()
	}
	return device, done, err
}

func unlessNone(err error) error {
	if errors.Is(err, errNone) || errors.Is(err, errNoBus) {
		return nil
	}
	return err
}

func askNetworkManager(ctx context.Context, l link) (Client, error) {
	c := Client{Program: NetworkManager}
	bus, manager, err := NetworkManager.on(ctx, nmPath)
	if err != nil {
		return c, err
	}
	defer bus.Close() //nolint:errcheck // everything is answered by then
	device, err := nmDeviceOf(ctx, bus, manager, l.name)
	if err != nil {
		return c, err
	}
	managed, err := property[bool](ctx, device, nmManaged)
	if err != nil || !managed {
		return c, orNone(err)
	}
	lease, err := property[dbus.ObjectPath](ctx, device, nmDHCP)
	if err != nil || lease == "/" {
		return c, err
	}
	options, err := property[map[string]dbus.Variant](ctx, bus.Object(busNames[NetworkManager], lease), nmLease)
	if err != nil {
		return c, err
	}
	text := func(name string) string {
		s, _ := options[name].Value().(string)
		return s
	}
	c.Lease = Lease{MAC: l.mac, ClientID: l.defaultID(), Host: hostName()}
	c.Lease.Server, _ = netip.ParseAddr(text("dhcp_server_identifier"))
	if c.Lease.Address, err = netip.ParseAddr(text("ip_address")); err != nil {
		return c, fmt.Errorf("read its lease: %w", err)
	}
	if id := text("dhcp_client_identifier"); id != "" {
		if c.Lease.ClientID, err = hex.DecodeString(strings.ReplaceAll(id, ":", "")); err != nil {
			return c, fmt.Errorf("read the client identifier of its lease: %w", err)
		}
	}
	return c, nil
}

func orNone(err error) error {
	if err == nil {
		return errNone
	}
	return err
}

// defaultID is the client identifier that most clients send: the hardware type 1,
// Ethernet, and the MAC (RFC 2132, 9.14).
func (l link) defaultID() []byte { return append([]byte{1}, l.mac...) }

// hostName is what clients send as option 12: the host's name without its domain.
func hostName() string {
	name, _ := os.Hostname()
	name, _, _ = strings.Cut(name, ".")
	if name == "localhost" {
		return ""
	}
	return name
}

func askNetworkd(ctx context.Context, l link) (Client, error) {
	c := Client{Program: Networkd}
	bus, manager, err := Networkd.on(ctx, "/org/freedesktop/network1")
	if err != nil {
		return c, err
	}
	defer bus.Close() //nolint:errcheck // everything is answered by then
	var name string
	var path dbus.ObjectPath
	if err := manager.CallWithContext(ctx, "org.freedesktop.network1.Manager.GetLinkByIndex", 0, int32(l.index)).Store(&name, &path); err != nil {
		return c, errNone // it does not know the link
	}
	state, err := property[string](ctx, bus.Object(busNames[Networkd], path), "org.freedesktop.network1.Link.AdministrativeState")
	if err != nil || state == "unmanaged" {
		return c, orNone(err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/run/systemd/netif/leases/%d", l.index))
	if os.IsNotExist(err) {
		return c, nil
	}
	if err == nil {
		c.Lease, err = parseNetworkdLease(string(text))
	}
	c.Lease.MAC, c.Lease.Host = l.mac, hostName()
	return c, err
}

// parseNetworkdLease reads what sd-dhcp-lease.c writes, lines of KEY=value. It is
// called private there, and the same since 2014; what cannot be read is an error.
func parseNetworkdLease(text string) (Lease, error) {
	var l Lease
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		var err error
		switch key {
		case "ADDRESS":
			l.Address, err = netip.ParseAddr(value)
		case "SERVER_ADDRESS":
			l.Server, err = netip.ParseAddr(value)
		case "CLIENTID":
			l.ClientID, err = hex.DecodeString(value)
		}
		if err != nil {
			return l, fmt.Errorf("read its lease: %s: %w", key, err)
		}
	}
	if !l.Address.IsValid() {
		return l, errors.New("read its lease: it has no ADDRESS")
	}
	return l, nil
}

// askConnMan finds the service with the link. ConnMan cannot be told at run time to
// let go of a link, and goes deaf.
func askConnMan(ctx context.Context, l link) (Client, error) {
	c := Client{Program: ConnMan}
	bus, manager, err := ConnMan.on(ctx, "/")
	if err != nil {
		return c, err
	}
	defer bus.Close() //nolint:errcheck // everything is answered by then
	var services []struct {
		Path       dbus.ObjectPath
		Properties map[string]dbus.Variant
	}
	if err := manager.CallWithContext(ctx, "net.connman.Manager.GetServices", 0).Store(&services); err != nil {
		return c, fmt.Errorf("list its services: %w", err)
	}
	for _, s := range services {
		ethernet, _ := s.Properties["Ethernet"].Value().(map[string]dbus.Variant)
		if name, _ := ethernet["Interface"].Value().(string); name == l.name {
			c.Refusal = "is configured by ConnMan, which cannot be told at run time to let go of it: add it to NetworkInterfaceBlacklist " +
				`in /etc/connman/main.conf and configure it by another program, or use mode = "nat"`
			return c, nil
		}
	}
	return c, errNone
}
