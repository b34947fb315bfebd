package managers

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
)

// errNoBus tells that there is no system bus in this network namespace.
var errNoBus = errors.New("there is no system bus here")

// busSocket ends the path of a system bus's socket, in whichever mount namespace.
const busSocket = "/dbus/system_bus_socket"

// SystemBus connects to the system bus, if its daemon is of the caller's network
// namespace: what runs in another one, with /run shared, has other links, whose
// names and indexes mean nothing here. The caller closes it.
func SystemBus(ctx context.Context) (*dbus.Conn, error) {
	if !busFile() {
		return nil, errNoBus
	}
	// The kernel lists the sockets of the reader's namespace only.
	sockets, err := os.Open("/proc/thread-self/net/unix")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoBus, err)
	}
	defer sockets.Close()
	if !busListens(sockets) {
		return nil, errNoBus
	}
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoBus, err)
	}
	return bus, nil
}

// busFile reports whether there is a bus to connect to, of any namespace. A host
// without one is asked again and again, and the list of sockets is long where many
// VMs run. The places are those of package dbus.
func busFile() bool {
	if os.Getenv("DBUS_SYSTEM_BUS_ADDRESS") != "" {
		return true
	}
	return slices.ContainsFunc([]string{"/var/run", "/run"}, func(dir string) bool {
		_, err := os.Stat(dir + busSocket)
		return err == nil
	})
}

// acceptCon is set of a socket that listens (__SO_ACCEPTCON, linux/net.h).
const acceptCon = 1 << 16

// busListens looks for a bus in a list of sockets (proc_net_unix(5)):
//
//	Num RefCount Protocol Flags Type St Inode Path
//
// A bus's end of a connection has the bus's path too, but is of the namespace of
// who connects.
func busListens(sockets io.Reader) bool {
	for lines := bufio.NewScanner(sockets); lines.Scan(); {
		if !bytes.HasSuffix(lines.Bytes(), []byte(busSocket)) {
			continue
		}
		words := strings.Fields(lines.Text())
		if len(words) < 8 {
			continue
		}
		if flags, err := strconv.ParseUint(words[3], 16, 32); err == nil && flags&acceptCon != 0 {
			return true
		}
	}
	return false
}
