package managers

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/qnet-vm/qnet/internal/sysbus"
)

// systemd-networkd's D-Bus interface (org.freedesktop.network1(5)).
const (
	networkdPath  = "/org/freedesktop/network1"
	networkdLink  = "org.freedesktop.network1.Manager.GetLinkByIndex"
	networkdState = "org.freedesktop.network1.Link.AdministrativeState"
)

// networkdLeases has a file per link, named by its index.
const networkdLeases = "/run/systemd/netif/leases"

// askNetworkd finds out whether systemd-networkd configures the link, and its lease.
func askNetworkd(ctx context.Context, l link) (Client, error) {
	c := Client{Program: Networkd}
	peer, err := sysbus.Dial(ctx, busNames[Networkd])
	if err != nil {
		return c, err
	}
	defer peer.Close()
	var name string
	var path dbus.ObjectPath
	if err := peer.Call(ctx, networkdPath, networkdLink, int32(l.index)).Store(&name, &path); err != nil {
		return c, errNone // it does not know the link
	}
	state, err := sysbus.Property[string](ctx, peer, path, networkdState)
	if err != nil || state == "unmanaged" {
		return c, orNone(err)
	}
	text, err := os.ReadFile(filepath.Join(networkdLeases, strconv.Itoa(l.index)))
	if os.IsNotExist(err) {
		return c, nil
	}
	if err == nil {
		c.Lease, err = parseNetworkdLease(string(text))
	}
	c.Lease.MAC, c.Lease.Host = l.mac, hostName()
	return c, err
}

// parseNetworkdLease reads lines of KEY=value, as sd-dhcp-lease.c writes them. That
// file calls the format private, but has not changed it since 2014.
func parseNetworkdLease(text string) (HostLease, error) {
	var l HostLease
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
