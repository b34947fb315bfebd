// Package programs starts the programs that change the same host as qnet,
// Docker and firewalls among them, for tests: the real ones, in the namespaces
// of the test that starts them.
package programs

import (
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/profiles"
)

// Neighbour is a program that shares the host with qnet. Its functions run in the
// namespaces of one test, see lab.Run and lab.Uplink, in any order after Start.
type Neighbour struct {
	Name  string // as its project writes it, "Docker"
	Needs []lab.Need

	// Start starts it, and returns when it does its job. t.Cleanup stops it.
	Start func(t testing.TB)
	// Reload does what its administrator does to make it read its settings again
	// or to restart it, and returns when that is done.
	Reload func(t testing.TB)
	// Works tells what of its own job it no longer does, nil if it does all.
	Works func(t testing.TB) error
	// State is everything on the host that is its own, byte for byte: equal before
	// qnet came and after qnet has gone. It leaves out counters.
	State func(t testing.TB) string
	// Version is what was tested, "Docker 20.10.24".
	Version func() string
	// Refuses is the text that qnet must say where it correctly refuses, or tells
	// the user what to do, instead of working in that mode; "" where it must work.
	Refuses func(mode profiles.Mode) string
}
