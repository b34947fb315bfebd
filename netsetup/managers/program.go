package managers

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/qnet-vm/qnet/internal/sysbus"
)

// Program is a program that configures links, by the name its project gives it.
type Program string

// The programs that own a name on the system bus.
const (
	NetworkManager Program = "NetworkManager"
	Networkd       Program = "systemd-networkd"
	ConnMan        Program = "ConnMan"
)

// Programs are all programs that own a name on the system bus.
var Programs = []Program{NetworkManager, Networkd, ConnMan}

// busNames are the names that the programs own on the system bus.
var busNames = map[Program]string{
	NetworkManager: "org.freedesktop.NetworkManager",
	Networkd:       "org.freedesktop.network1",
	ConnMan:        "net.connman",
}

// askTimeout bounds the questions about a link, and reloadTimeout the wait for a
// program that reads its configuration again. The start of a VM waits for both.
const (
	askTimeout    = time.Second
	reloadTimeout = 3 * time.Second
)

// Running lists the programs that run in the caller's network namespace. It needs no
// rights and takes at most 1 s.
func Running(ctx context.Context) []Program {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	names := make([]string, len(Programs))
	for i, p := range Programs {
		names[i] = busNames[p]
	}
	owned := sysbus.Running(ctx, names...)
	var running []Program
	for _, p := range Programs {
		if slices.Contains(owned, busNames[p]) {
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
	// 1 is NM_MANAGER_RELOAD_FLAG_CONF: NetworkManager.conf and its conf.d only.
	NetworkManager: {nmPath, "org.freedesktop.NetworkManager.Reload", "nmcli general reload conf", []any{uint32(1)}},
	Networkd:       {networkdPath, "org.freedesktop.network1.Manager.Reload", "networkctl reload", nil},
}

// Reload has a program read its configuration again. It does nothing where the program
// does not run, and returns an error for a program that cannot reload. It needs root's
// rights and takes at most 3 s.
//
//	nmcli general reload conf
//	networkctl reload
func Reload(ctx context.Context, p Program) error {
	call, ok := reloads[p]
	if !ok {
		return fmt.Errorf("reload %s: it cannot while it runs", p)
	}
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	peer, err := sysbus.Dial(ctx, busNames[p])
	if err != nil {
		return unlessAbsent(parent, err)
	}
	defer peer.Close()
	if err := peer.Call(ctx, call.path, call.method, call.args...).Err; err != nil {
		return fmt.Errorf("reload %s: %w", p, err)
	}
	return nil
}

// ReloadCommand returns the command that does what Reload does.
func ReloadCommand(p Program) string { return reloads[p].command }
