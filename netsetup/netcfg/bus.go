package netcfg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/godbus/dbus/v5"
)

// errNoBus tells that there is no system bus in this network namespace.
var errNoBus = errors.New("there is no system bus here")

// SystemBus connects to the system bus, if its daemon is of the caller's network
// namespace: what runs in another one, with /run shared, has other links, whose
// names and indexes mean nothing here. The caller closes it.
func SystemBus(ctx context.Context) (*dbus.Conn, error) {
	// The kernel lists the sockets of the reader's namespace only.
	sockets, err := os.ReadFile("/proc/thread-self/net/unix")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoBus, err)
	}
	if !strings.Contains(string(sockets), "/dbus/system_bus_socket\n") {
		return nil, errNoBus
	}
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoBus, err)
	}
	return bus, nil
}
