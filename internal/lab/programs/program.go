// Package programs starts other programs that change the network of a host, for tests:
// Docker, firewalls, libvirt, network managers, DHCP clients, stand-ins for VPN clients.
// Except for those stand-ins they are the real programs. They run in the namespaces of
// the test that starts them (lab.Run) and leave the machine as it is.
package programs

import (
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/profiles"
)

// Program is a program that shares the host with qnet. Its functions run in the
// namespaces of one test with an uplink (lab.Run, lab.Uplink), in any order after Start.
type Program struct {
	Name  string // as its project writes it: "Docker"
	Needs []lab.Need

	// Start starts the program and returns when it does its job. t.Cleanup stops it.
	Start func(t testing.TB)
	// Reload does what an administrator does to make the program read its settings again
	// or to restart it, and returns afterwards.
	Reload func(t testing.TB)
	// Works is the part of its own job that the program no longer does, nil if it does
	// all of it.
	Works func(t testing.TB) error
	// State is everything on the host that belongs to the program, without counters. It
	// is the same, byte for byte, before qnet starts and after it ends.
	State func(t testing.TB) string
	// Version is the program with its version: "Docker 20.10.24".
	Version func() string
	// Refuses is the text with which qnet must refuse a mode or tell the user what to do,
	// "" for a mode that must work.
	Refuses func(mode profiles.Mode) string
}
