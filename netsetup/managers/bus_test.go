package managers

import (
	"context"
	"encoding/hex"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/vishvananda/netlink"

	"github.com/qnet-vm/qnet/internal/lab/fakebus"
	"github.com/qnet-vm/qnet/internal/sysbus"
)

const device = "/org/freedesktop/NetworkManager/Devices/2"

// networkManager puts a NetworkManager 1.42 on the bus that has a lease on eth0.
func networkManager(t *testing.T) *fakebus.Bus {
	t.Helper()
	bus := fakebus.Start(t)
	bus.Handle(nmPath, nmDevices, fakebus.Return([]dbus.ObjectPath{"/gone", device}))
	bus.Handle(nmPath, "org.freedesktop.NetworkManager.Reload", fakebus.Return())
	bus.SetProperty(device, nmLink, "eth0")
	bus.SetProperty(device, nmManaged, true)
	bus.SetProperty(device, nmDHCP, dbus.ObjectPath("/lease"))
	options(bus, "192.0.2.55", "01:52:54:00:00:00:01")
	bus.Own(busNames[NetworkManager], true)
	return bus
}

func options(bus *fakebus.Bus, address, id string) {
	bus.SetProperty("/lease", nmLease, map[string]dbus.Variant{
		"ip_address": dbus.MakeVariant(address), "dhcp_server_identifier": dbus.MakeVariant("192.0.2.1"),
		"dhcp_client_identifier": dbus.MakeVariant(id), "dhcp_lease_time": dbus.MakeVariant("3600"),
	})
}

var eth0 = link{name: "eth0", index: 2, mac: net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}}

func TestAskNetworkManager(t *testing.T) {
	bus := networkManager(t)
	c, err := askNetworkManager(t.Context(), eth0)
	if err != nil || c.Program != NetworkManager || c.Lease.Address.String() != "192.0.2.55" || c.Lease.Server.String() != "192.0.2.1" ||
		hex.EncodeToString(c.Lease.ClientID) != "01525400000001" || !c.GoesDeaf() {
		t.Errorf("got %+v, %v", c, err)
	}
	options(bus, "192.0.2.55", "")
	if c, err := askNetworkManager(t.Context(), eth0); err != nil || hex.EncodeToString(c.Lease.ClientID) != "01525400000001" {
		t.Errorf("no client identifier is the default one: %+v, %v", c, err)
	}
	for _, bad := range [][2]string{{"x", ""}, {"192.0.2.55", "x"}} {
		options(bus, bad[0], bad[1])
		if c, err := askNetworkManager(t.Context(), eth0); err == nil {
			t.Errorf("%q: got %+v", bad, c)
		}
	}
	bus.SetProperty(device, nmDHCP, dbus.ObjectPath("/"))
	if c, err := askNetworkManager(t.Context(), eth0); err != nil || c.Lease.Address.IsValid() || c.GoesDeaf() {
		t.Errorf("a static address: %+v, %v", c, err)
	}
	bus.SetProperty(device, nmManaged, false)
	if _, err := askNetworkManager(t.Context(), eth0); !errors.Is(err, errNone) {
		t.Errorf("an unmanaged link: %v", err)
	}
	if _, err := askNetworkManager(t.Context(), link{name: "eth1"}); !errors.Is(err, errNone) {
		t.Errorf("a link that NetworkManager does not know: %v", err)
	}
}

func TestSetManaged(t *testing.T) {
	bus := networkManager(t)
	for _, want := range []bool{false, true} {
		if err := SetManaged(t.Context(), "eth0", want); err != nil {
			t.Fatal(err)
		}
		if got, err := Managed(t.Context(), "eth0"); err != nil || got != want || bus.Property(device, nmManaged) != want {
			t.Errorf("managed is %v, %v, want %v", got, err, want)
		}
	}
	if err := SetManaged(t.Context(), "eth1", false); err != nil {
		t.Errorf("a link that NetworkManager does not know: %v", err)
	}
	bus.Handle(device, "org.freedesktop.DBus.Properties.Set", func([]any) ([]any, error) { return nil, errors.New("Not authorized") })
	if err := SetManaged(t.Context(), "eth0", false); err == nil || !strings.Contains(err.Error(), "Not authorized") {
		t.Errorf("a refusal: %v", err)
	}
	bus.Handle(nmPath, nmDevices, func([]any) ([]any, error) { return nil, errors.New("busy") })
	if _, err := Managed(t.Context(), "eth0"); err == nil {
		t.Error("a NetworkManager that lists no devices")
	}
	bus.Own(busNames[NetworkManager], false)
	if managed, err := Managed(t.Context(), "eth0"); managed || err != nil {
		t.Errorf("without NetworkManager: %v, %v", managed, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := SetManaged(ctx, "eth0", false); !errors.Is(err, context.Canceled) {
		t.Errorf("the context has ended: %v", err)
	}
}

func TestAskNetworkd(t *testing.T) {
	bus := fakebus.Start(t)
	if _, err := askNetworkd(t.Context(), eth0); !sysbus.Absent(err) {
		t.Errorf("it does not run: %v", err)
	}
	bus.Own(busNames[Networkd], true)
	bus.Handle(networkdPath, networkdLink, func(args []any) ([]any, error) {
		if args[0].(int32) == noLease {
			return []any{"eth0", dbus.ObjectPath("/link")}, nil
		}
		return nil, fakebus.Refuse("org.freedesktop.network1.NoSuchLink", "Link 2 not known")
	})
	if _, err := askNetworkd(t.Context(), eth0); !errors.Is(err, errNone) {
		t.Errorf("a link that it does not know: %v", err)
	}
	l := link{name: "eth0", index: noLease}
	bus.SetProperty("/link", networkdState, "configured")
	if c, err := askNetworkd(t.Context(), l); err != nil || c.Program != Networkd || c.Lease.Address.IsValid() {
		t.Errorf("no lease: %+v, %v", c, err)
	}
	bus.SetProperty("/link", networkdState, "unmanaged")
	if _, err := askNetworkd(t.Context(), l); !errors.Is(err, errNone) {
		t.Errorf("an unmanaged link: %v", err)
	}
}

// noLease is the index of a link that no host has, and so has no file with a lease.
const noLease = 1<<31 - 1

func TestAskConnMan(t *testing.T) {
	bus := fakebus.Start(t)
	bus.Own(busNames[ConnMan], true)
	type service struct {
		Path       dbus.ObjectPath
		Properties map[string]dbus.Variant
	}
	ethernet := map[string]dbus.Variant{"Interface": dbus.MakeVariant("eth0")}
	bus.Handle("/", connManServices, fakebus.Return([]service{
		{"/wifi", map[string]dbus.Variant{"Name": dbus.MakeVariant("home")}},
		{"/wired", map[string]dbus.Variant{"Ethernet": dbus.MakeVariant(ethernet)}},
	}))
	if c, err := askConnMan(t.Context(), eth0); err != nil || !strings.Contains(c.Refusal, "NetworkInterfaceBlacklist") {
		t.Errorf("got %+v, %v", c, err)
	}
	if _, err := askConnMan(t.Context(), link{name: "eth1"}); !errors.Is(err, errNone) {
		t.Errorf("another link: %v", err)
	}
	bus.Handle("/", connManServices, func([]any) ([]any, error) { return nil, errors.New("busy") })
	if _, err := askConnMan(t.Context(), eth0); err == nil || errors.Is(err, errNone) {
		t.Errorf("a ConnMan that lists no services: %v", err)
	}
}

// The loopback needs no rights to look at.
func TestObserveLoopback(t *testing.T) {
	bus := networkManager(t)
	if c, err := Observe(t.Context(), "lo"); err != nil || c.Refusal != "" || c.Program == NetworkManager {
		t.Errorf("not NetworkManager's: got %+v, %v", c, err)
	}
	bus.SetProperty(device, nmLink, "lo")
	if c, err := Observe(t.Context(), "lo"); err != nil || c.Program != NetworkManager || c.Link != "lo" || c.Lease.Address.String() != "192.0.2.55" {
		t.Errorf("NetworkManager's: got %+v, %v", c, err)
	}
	options(bus, "x", "")
	if c, err := Observe(t.Context(), "lo"); err != nil || !strings.Contains(c.Refusal, "NetworkManager, which does not tell how") {
		t.Errorf("a lease that cannot be read: got %+v, %v", c, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Observe(ctx, "lo"); !errors.Is(err, context.Canceled) {
		t.Errorf("the context has ended: %v", err)
	}
	if _, err := Observe(t.Context(), "no-such-link"); err == nil {
		t.Error("a link that is not there")
	}
}

func TestReload(t *testing.T) {
	bus := networkManager(t)
	bus.Own(busNames[ConnMan], true)
	if got := Running(t.Context()); !slices.Equal(got, []Program{NetworkManager, ConnMan}) {
		t.Errorf("running: %v", got)
	}
	for _, p := range []Program{NetworkManager, Networkd} { // networkd does not run
		if err := Reload(t.Context(), p); err != nil {
			t.Errorf("reload %s: %v", p, err)
		}
		if ReloadCommand(p) == "" {
			t.Errorf("%s has no command", p)
		}
	}
	if got := bus.Calls(); !slices.Equal(got, []string{"org.freedesktop.NetworkManager.Reload(1)"}) {
		t.Errorf("called %v", got)
	}
	if err := Reload(t.Context(), ConnMan); err == nil {
		t.Error("ConnMan reloads")
	}
	bus.Own(busNames[Networkd], true)
	bus.Handle(networkdPath, "org.freedesktop.network1.Manager.Reload", func([]any) ([]any, error) { return nil, errors.New("no") })
	if err := Reload(t.Context(), Networkd); err == nil {
		t.Error("networkd refuses")
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "none"))
	if got, err := Running(t.Context()), Reload(t.Context(), Networkd); got != nil || err != nil {
		t.Errorf("without a bus: %v, %v", got, err)
	}
}

func TestLeaveAlone(t *testing.T) {
	for _, p := range []Program{NetworkManager, Networkd} {
		f, ok := LeaveAlone(p)
		if !ok || !strings.HasPrefix(f.Text, Mark) || !strings.HasPrefix(f.Path, "/run/") || !strings.Contains(f.Text, "qn*") || Advice(p) != "" {
			t.Errorf("%s: %+v, %v", p, f, ok)
		}
	}
	if _, ok := LeaveAlone(ConnMan); ok || !strings.Contains(Advice(ConnMan), "NetworkInterfaceBlacklist") {
		t.Error("ConnMan has a file")
	}
	if f := LetGo("eth0"); !strings.HasSuffix(f.Path, "0-qnet-eth0.network") || !strings.Contains(f.Text, "Name=eth0\n") || !strings.HasPrefix(f.Text, Mark) {
		t.Errorf("one link: %+v", f)
	}
}

// An address with an end has a client somewhere; it is also the likeliest lease.
func TestAddressesWithAnEnd(t *testing.T) {
	static, leased := netlink.Addr{IPNet: ipNet("192.0.2.10/24")}, netlink.Addr{IPNet: ipNet("192.0.2.55/24"), ValidLft: 100}
	endless := netlink.Addr{IPNet: ipNet("192.0.2.11/24"), ValidLft: 1<<32 - 1}
	for _, c := range []struct {
		name      string
		addresses []netlink.Addr
		leased    string
		refused   bool
	}{
		{"none", nil, "invalid IP", false},
		{"static ones", []netlink.Addr{static, endless}, "192.0.2.10", false},
		{"a lease", []netlink.Addr{static, leased, endless}, "192.0.2.55", true},
	} {
		l := link{name: "eth0", addresses: c.addresses}
		if got := l.leased().String(); got != c.leased {
			t.Errorf("%s: the lease is %s", c.name, got)
		}
		if u := l.unknown(); (u.Refusal != "") != c.refused || u.Link != "eth0" {
			t.Errorf("%s: %+v", c.name, u)
		}
	}
	if serves(Dhcpcd, []string{"dhcpcd: [manager]"}, link{addresses: []netlink.Addr{static}}) || !serves(Dhcpcd, []string{"dhcpcd"}, link{addresses: []netlink.Addr{leased}}) {
		t.Error("dhcpcd serves links that have an address with an end")
	}
}

func ipNet(s string) *net.IPNet {
	ip, n, err := net.ParseCIDR(s)
	if err != nil {
		panic(err)
	}
	n.IP = ip
	return n
}
