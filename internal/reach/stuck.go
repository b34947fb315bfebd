package reach

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/netsetup/guestwatch"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu/standstill"
)

// Stuck tells how far a VM and its guest have come when the time of a wait is over, and
// what the likely cause is.
type Stuck struct {
	VM      control.State
	Goal    Goal
	After   time.Duration
	NIC     control.NIC
	Address netip.Addr
}

// Error names the last stage and the likely cause.
func (e *Stuck) Error() string {
	stage := e.NIC.Seen.Last().String()
	switch {
	case e.VM.State != control.Running:
		stage = "VM " + e.VM.Status()
	case e.NIC.Seen.Last() == guestwatch.Silent:
		stage = "QEMU running, no frame from the guest"
	}
	return fmt.Sprintf("wait for %s of VM %q: not within %s; last stage: %s\nlikely: %s", e.Goal, e.VM.Name, e.After, stage, e.cause())
}

// Hint names the probe, which knows more of a VM that runs.
func (e *Stuck) Hint() string {
	if e.VM.State != control.Running {
		return ""
	}
	return "sudo qnet doctor --probe " + e.VM.Profile + " tries its networks with a synthetic guest, and says where packets vanish"
}

// cause returns the likely cause, and what to do next.
func (e *Stuck) cause() string {
	switch e.VM.State {
	case control.Starting:
		return "its network is not ready yet; the terminal of qnet run shows what it waits for"
	case control.Stopping:
		return "it was asked to stop"
	case control.Paused:
		return e.paused()
	case control.Suspended:
		return "the guest sleeps (suspend to memory)"
	case control.Panicked:
		return "the guest's kernel crashed; look with: qnet logs " + e.VM.Name
	}
	mode := e.NIC.Mode
	if e.Address.IsValid() {
		return e.unreachable()
	}
	seen := e.NIC.Seen
	switch seen.Last() {
	case guestwatch.Silent:
		return "the guest is still booting, has no driver for its NIC (model), or does not bring it up; look with: qnet console " + e.VM.Name
	case guestwatch.Frame:
		if seen.NAKs > 0 {
			return "the DHCP server refuses the address that the guest asks for"
		}
		return "the NIC is up, but the guest runs no DHCP client on it, and has no address of its own or has not used it yet"
	case guestwatch.Discover:
		return noOffer(mode)
	case guestwatch.Offer:
		return "the guest does not take what it is offered: its firewall drops the OFFER, or another server is offering too"
	case guestwatch.Request:
		if seen.NAKs > 0 {
			return "the DHCP server refuses the address that the guest asks for"
		}
		return "no server acknowledges: the guest asks a server that is gone"
	}
	return "the guest got an address and does not use it"
}

// paused returns what to do about a VM that is paused.
func (e *Stuck) paused() string {
	if len(e.VM.Disks) > 0 {
		return "the host cannot write to " + strings.Join(e.VM.Disks, ", ") + "; the guest goes on by itself when it can"
	}
	return "QEMU stopped the guest; qnet.log in the directory of its logs says why"
}

// Held tells that a guest answers nothing because its user had it stand still.
type Held struct{ VM control.State }

// IsHeld reports whether the VM stands still until its user lets it go on.
func IsHeld(s control.State) bool { return s.State == control.Paused && s.Reason == standstill.ByUser }

// Error says so.
func (e *Held) Error() string {
	return fmt.Sprintf("VM %q: it is %s, and answers nothing", e.VM.Name, e.VM.Status())
}

// Hint says how it goes on.
func (e *Held) Hint() string { return fmt.Sprintf("qnet resume %s lets it go on", e.VM.Name) }

func noOffer(mode profiles.Mode) string {
	switch mode {
	case profiles.Private:
		return "a private network has no DHCP server: give the guest a static address, or run a server in one of its VMs"
	case profiles.Bridge:
		return "no DHCP server answers on the LAN: the uplink has no link, the LAN has no server, or the switch drops frames of a MAC it does not know (port security)"
	default:
		return "every address is taken, or the network's keeper does not answer; look with: qnet net"
	}
}

func (e *Stuck) unreachable() string {
	if e.Goal.Port != 0 {
		return fmt.Sprintf("nothing listens on port %d of %s, perhaps not yet (--timeout), or the guest's firewall drops it", e.Goal.Port, e.Address)
	}
	return fmt.Sprintf("the guest's firewall drops ping to %s, or the host has no route there", e.Address)
}
