package managers

import (
	"context"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"
)

// Program configures links, and is named as its project writes it.
type Program string

// The programs that can be asked over D-Bus whether they run.
const (
	NetworkManager Program = "NetworkManager"
	Networkd       Program = "systemd-networkd"
	ConnMan        Program = "ConnMan"
)

// Programs are all of them.
var Programs = []Program{NetworkManager, Networkd, ConnMan}

// busNames are the names they own on the system bus.
var busNames = map[Program]string{
	NetworkManager: "org.freedesktop.NetworkManager",
	Networkd:       "org.freedesktop.network1",
	ConnMan:        "net.connman",
}

// askTimeout bounds the question who runs, and reloadTimeout the wait for a
// program that reads its configuration again: a VM waits for both.
const (
	askTimeout    = time.Second
	reloadTimeout = 3 * time.Second
)

// Running lists the programs that run in the caller's network namespace. It
// starts none of them and needs no rights.
func Running() []Program {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	bus, err := SystemBus(ctx)
	if err != nil {
		return nil
	}
	defer bus.Close() //nolint:errcheck // everything is answered by then
	var running []Program
	for _, p := range Programs {
		owned := false
		err := bus.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, busNames[p]).Store(&owned)
		if err == nil && owned {
			running = append(running, p)
		}
	}
	return running
}

// reloads are the methods that have a program read its configuration again, with
// their arguments.
var reloads = map[Program]struct {
	path            dbus.ObjectPath
	method, command string
	args            []any
}{
	// 1 is NM_MANAGER_RELOAD_FLAG_CONF: NetworkManager.conf and its kin only.
	NetworkManager: {"/org/freedesktop/NetworkManager", "org.freedesktop.NetworkManager.Reload", "nmcli general reload conf", []any{uint32(1)}},
	Networkd:       {"/org/freedesktop/network1", "org.freedesktop.network1.Manager.Reload", "networkctl reload", nil},
}

// Reload has a program read its configuration again; one that does not run needs
// not. Root may.
//
//	nmcli general reload conf
//	networkctl reload
func Reload(p Program) error {
	call, ok := reloads[p]
	if !ok {
		return fmt.Errorf("reload %s: it cannot while it runs", p)
	}
	ctx, cancel := context.WithTimeout(context.Background(), reloadTimeout)
	defer cancel()
	bus, manager, err := p.on(ctx, call.path)
	if err != nil {
		return unlessNone(err)
	}
	defer bus.Close() //nolint:errcheck // everything is answered by then
	if err := manager.CallWithContext(ctx, call.method, 0, call.args...).Err; err != nil {
		return fmt.Errorf("reload %s: %w", p, err)
	}
	return nil
}

// ReloadCommand is the command that Reload equals.
func ReloadCommand(p Program) string { return reloads[p].command }
