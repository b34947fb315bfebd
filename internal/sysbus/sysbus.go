// Package sysbus talks to the programs on the system bus of the caller's network
// namespace, by D-Bus.
//
// A bus whose daemon runs in another namespace counts as none: programs there have
// other links, and the names and indexes of this host's links mean nothing to them.
// That happens where /run is shared, as with containers. No call starts a program,
// by D-Bus activation or otherwise.
//
// Functions may be called concurrently. Each Peer has a connection of its own, so
// the calls of one Peer are served in their order.
package sysbus

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

var (
	// ErrNone is returned where this network namespace has no system bus.
	ErrNone = errors.New("there is no system bus here")
	// ErrNotRunning is returned for a program that has no name on the bus.
	ErrNotRunning = errors.New("it does not run")
)

const (
	// Path of the socket's end, in any mount namespace.
	socketSuffix = "/dbus/system_bus_socket"

	busInterface = "org.freedesktop.DBus"
	properties   = "org.freedesktop.DBus.Properties"
)

// connect connects to the bus, or returns an error that wraps ErrNone. The caller
// closes the connection, which also ends with ctx.
func connect(ctx context.Context) (*dbus.Conn, error) {
	if !ours() {
		return nil, ErrNone
	}
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	return bus, nil
}

// acceptCon is a flag of a socket that listens (__SO_ACCEPTCON, linux/net.h).
const acceptCon = 1 << 16

// listens looks for a bus in a list of sockets (proc_net_unix(5)):
//
//	Num RefCount Protocol Flags Type St Inode Path
//
// The daemon's end of a connection has the bus's path too, but is of the namespace
// of the program that connects.
func listens(sockets io.Reader) bool {
	for lines := bufio.NewScanner(sockets); lines.Scan(); {
		if !bytes.HasSuffix(lines.Bytes(), []byte(socketSuffix)) {
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

// socket returns the path of the bus's socket, of any namespace, as package dbus
// finds it; "" where there is none.
func socket() string {
	if address := os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"); address != "" {
		return strings.TrimPrefix(address, "unix:path=")
	}
	paths := []string{"/var/run" + socketSuffix, "/run" + socketSuffix}
	i := slices.IndexFunc(paths, func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	})
	if i < 0 {
		return ""
	}
	return paths[i]
}
