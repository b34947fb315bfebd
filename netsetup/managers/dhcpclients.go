package managers

import (
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// findClient looks for the process of a DHCP client that serves the link.
func findClient(_ context.Context, l link) (Client, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return Client{}, errNone
	}
	for _, dir := range dirs {
		line, err := os.ReadFile(filepath.Join(dir, "cmdline")) // gone with the process
		if err != nil || len(line) == 0 {
			continue
		}
		argv := strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")
		program := clientName(argv)
		if program == "" || !serves(program, argv, l) || !here(dir) {
			continue
		}
		c := Client{Program: program}
		if program == Udhcpc {
			c.Lease = HostLease{Address: l.leased(), MAC: l.mac, ClientID: udhcpcID(argv, l), Host: udhcpcHost(argv)}
		}
		return c, nil
	}
	return Client{}, errNone
}

// clientName returns the DHCP client that a command line belongs to, "" for another
// program. dhcpcd replaces its own command line by "dhcpcd: [manager] ...".
func clientName(argv []string) Program {
	name, _, _ := strings.Cut(argv[0], ":")
	name = filepath.Base(name)
	if name == "busybox" && len(argv) > 1 {
		name = argv[1]
	}
	switch p := Program(name); p {
	case Dhclient, Dhcpcd, Udhcpc:
		return p
	}
	return ""
}

// serves reports whether a client with those arguments serves the link. Without
// links among them, dhclient and dhcpcd serve all, and udhcpc eth0.
func serves(p Program, argv []string, l link) bool {
	switch p {
	case Udhcpc:
		return option(argv, "i", "interface", "eth0") == l.name
	case Dhclient:
		named := false
		for i, a := range argv[1:] {
			if _, err := os.Stat(filepath.Join("/sys/class/net", a)); err == nil && filepath.Base(a) == a && !strings.HasPrefix(argv[i], "-") {
				named = true
			}
		}
		return slices.Contains(argv[1:], l.name) || !named
	}
	return slices.ContainsFunc(l.addresses, Finite) // dhcpcd's title does not always name its links
}

// option returns the value of -s VALUE, -sVALUE, --long VALUE or --long=VALUE.
func option(argv []string, short, long, def string) string {
	for i, a := range argv {
		switch {
		case a == "-"+short || a == "--"+long:
			if i+1 < len(argv) {
				return argv[i+1]
			}
		case strings.HasPrefix(a, "--"+long+"="):
			return strings.TrimPrefix(a, "--"+long+"=")
		case strings.HasPrefix(a, "-"+short) && !strings.HasPrefix(a, "--"):
			return strings.TrimPrefix(a, "-"+short)
		}
	}
	return def
}

// udhcpcID returns the client identifier that udhcpc sends: that of -x 0x3d:HEX, none
// with -C, else the default.
func udhcpcID(argv []string, l link) []byte {
	if id, ok := udhcpcOption(argv, "0x3d"); ok {
		raw, err := hex.DecodeString(strings.ReplaceAll(id, ":", ""))
		if err == nil {
			return raw
		}
	}
	if slices.Contains(argv, "-C") || slices.Contains(argv, "--clientid-none") {
		return nil
	}
	return l.defaultID()
}

// udhcpcHost returns the host name that udhcpc sends.
func udhcpcHost(argv []string) string {
	if name, ok := udhcpcOption(argv, "hostname"); ok {
		return name
	}
	name, _ := udhcpcOption(argv, "0x0c")
	raw, _ := hex.DecodeString(name)
	return string(raw)
}

// udhcpcOption returns the value of -x NAME:VALUE.
func udhcpcOption(argv []string, name string) (string, bool) {
	for i, a := range argv {
		text := strings.TrimPrefix(a, "-x")
		if a == "-x" && i+1 < len(argv) {
			text = argv[i+1]
		}
		if value, ok := strings.CutPrefix(text, name+":"); ok {
			return value, true
		}
	}
	return "", false
}

// here reports whether a process is in the caller's network namespace. The entries
// below /proc/PID/net are each namespace's own, and every user may stat them.
// Reading /proc/PID/ns/net would take the rights to trace the process.
func here(dir string) bool {
	var ours, theirs unix.Stat_t
	return unix.Stat("/proc/thread-self/net/dev", &ours) == nil &&
		unix.Stat(filepath.Join(dir, "net/dev"), &theirs) == nil && ours.Ino == theirs.Ino
}
