package keeper

import (
	"fmt"
	"os"
	"strings"

	"github.com/qnet-vm/qnet/internal/confine"
)

// Confinement says what confines the clerk of a network.
type Confinement struct {
	UID     int      `json:"uid"`               // of its process; name servers' answers come to sockets of this user
	Layers  []string `json:"layers"`            // in force: "user", "filter" (of system calls), "files", "tcp"
	Missing []string `json:"missing,omitempty"` // such as "files: the kernel has no Landlock"
}

// tcpSince is the first version of Landlock that knows TCP ports, that of Linux 6.7.
const tcpSince = 4

// ConfinementOf returns what confines the clerk of a network that the caller starts. The filter
// of system calls always does: without it no clerk runs.
func ConfinementOf(network string) Confinement {
	c := Confinement{UID: os.Geteuid()}
	if user := clerksUser(network); user != nil {
		c.UID = int(user.Uid)
	}
	c.decide(confine.Landlock())
	return c
}

// decide chooses the layers for a version of Landlock.
func (c *Confinement) decide(landlock int) {
	switch c.UID {
	case 0:
		c.Missing = append(c.Missing, "user: this user namespace has no other one: it runs as root, without capabilities")
	case confine.Nobody:
		c.Missing = append(c.Missing, "user: this user namespace has none of the network's own: it runs as nobody, like other programs")
	default:
		c.Layers = append(c.Layers, fmt.Sprintf("user %d", c.UID))
	}
	c.Layers = append(c.Layers, "filter")
	if landlock == 0 {
		c.Missing = append(c.Missing, "files: the kernel has no Landlock: it reads what every user can read")
	} else {
		c.Layers = append(c.Layers, fmt.Sprintf("files (Landlock %d)", landlock))
	}
	if landlock < tcpSince {
		c.Missing = append(c.Missing, "tcp: the kernel's Landlock knows no TCP ports (Linux 6.7 does): it connects to any")
	} else {
		c.Layers = append(c.Layers, "tcp")
	}
}

// String lists the layers in force, such as "user 1879048192, filter, files (Landlock 7), tcp".
func (c Confinement) String() string { return strings.Join(c.Layers, ", ") }

// Lacks words the missing layers, "" without one.
func (c Confinement) Lacks() string { return strings.Join(c.Missing, "; ") }
