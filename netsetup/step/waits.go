package step

import (
	"fmt"

	"github.com/qnet-vm/qnet/netsetup/host"
)

// Waits says what a step waits for where that may take longer than a moment, and
// "" of others.
func Waits(s Step) string {
	switch s := s.(type) {
	case AwaitAnswers:
		return fmt.Sprintf("the answer of %s on %s", host.Join(s.Want), s.Link)
	case Reload:
		return fmt.Sprintf("%s to read its configuration", s.Program)
	case Unmanage:
		return "NetworkManager to let go of " + s.Link
	case SetZone:
		return "firewalld"
	case LinkDNS:
		return "systemd-resolved"
	}
	return ""
}
