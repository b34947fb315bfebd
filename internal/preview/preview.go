// Package preview tells what a run of a profile would do, by the code that does it: the
// steps of its networks and the QEMU command. It changes nothing on the host.
package preview

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/internal/firstboot"
	"github.com/qnet-vm/qnet/internal/forwards"
	"github.com/qnet-vm/qnet/internal/hardware"
	"github.com/qnet-vm/qnet/internal/nics"
	"github.com/qnet-vm/qnet/internal/reachable"
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/internal/supervisor"
	"github.com/qnet-vm/qnet/internal/vmuser"
	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/dhcp"
	"github.com/qnet-vm/qnet/netsetup/forward"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/onlink"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/netsetup/ula"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu"
	"github.com/qnet-vm/qnet/qemu/machine"
	"github.com/qnet-vm/qnet/qemu/program"
	"github.com/qnet-vm/qnet/qemu/sandbox"
)

// Run is what a run would do.
type Run struct {
	Networks []Network             `json:"networks"`
	Disks    []hardware.DiskPlan   `json:"disks,omitempty"`   // that qnet makes
	Firmware hardware.FirmwarePlan `json:"firmware,omitzero"` // UEFI and TPM
	Seed     *firstboot.Plan       `json:"first_boot,omitempty"`
	Shares   []Share               `json:"shares,omitempty"`
	Forwards []string              `json:"forwards,omitempty"` // ports of the host that lead to the guest, as comments of a shell
	QEMU     string                `json:"qemu"`               // the command line
	Confined *sandbox.Report       `json:"confined,omitempty"` // what would confine QEMU; nil where there is none
	Notes    []string              `json:"notes,omitempty"`    // about the VM, not its networks
	Salted   bool                  `json:"-"`                  // the host has its salt: MACs and subnets will be those
}

// Share is a folder of the host that a virtiofsd of its own would share.
type Share struct {
	Path     string `json:"path"` // on the host
	Tag      string `json:"tag"`
	Mount    string `json:"mount"` // in the guest
	ReadOnly bool   `json:"readonly,omitempty"`
}

// String returns the share as a comment of a shell.
func (s Share) String() string {
	access := "read and write"
	if s.ReadOnly {
		access = "read only"
	}
	return fmt.Sprintf("# share %s: %s, in the guest %s, %s; virtiofsd sees nothing else", s.Tag, s.Path, s.Mount, access)
}

func sharesOf(p *profiles.Profile) (list []Share) {
	for i, m := range hardware.Mounts(p) {
		list = append(list, Share{Path: p.Shares[i].Path, Tag: m.Tag, Mount: m.Path, ReadOnly: m.ReadOnly})
	}
	return list
}

// Comments are what there is about disks, shares and QEMU's confinement, and the notes, as comments of a shell, a
// line each.
func (r Run) Comments() string {
	var b strings.Builder
	for _, d := range r.Disks {
		b.WriteString("# disk " + d.String() + "\n")
	}
	for line := range strings.Lines(r.Firmware.String()) {
		b.WriteString("# " + strings.TrimSpace(line) + "\n")
	}
	if r.Seed != nil {
		b.WriteString(r.Seed.String())
	}
	for _, note := range r.Notes {
		b.WriteString("# note: " + note + "\n")
	}
	for _, share := range r.Shares {
		b.WriteString(share.String() + "\n")
	}
	for _, forward := range r.Forwards {
		b.WriteString(forward + "\n")
	}
	if r.Confined != nil {
		b.WriteString(r.Confined.Comment() + "\n")
	}
	return b.String()
}

// Network is what it would do for one of the profile's networks, the VM's ports included.
type Network struct {
	plan.Plan
	Do   []string `json:"do"`
	Undo string   `json:"undo"`
}

// preview is one call of New.
type preview struct {
	profile          *profiles.Profile
	runDir, stateDir string
	salt             []byte
}

// New plans a run of a user with these files, that has these run and state directories. It
// does not make the salt where there is none. The error is host.Observe's or plan.New's.
func New(ctx context.Context, p *profiles.Profile, o hardware.Options, runDir, stateDir string) (run Run, err error) {
	salt, noSalt := os.ReadFile(filepath.Join(stateDir, "salt"))
	run.Salted = noSalt == nil
	v := preview{p, runDir, stateDir, salt}
	for _, n := range nics.NetworksOf(p) {
		network, err := v.network(ctx, n)
		if err != nil {
			return run, err
		}
		run.Networks = append(run.Networks, network)
	}
	if run.Disks, err = hardware.PlanDisks(p, o); err == nil {
		err = hardware.Refusal(p, o)
	}
	if err != nil {
		run.Notes = append(run.Notes, refused(err)...)
	}
	run.Shares, run.Forwards = sharesOf(p), forwards.Plan(p)
	run.Firmware, _ = hardware.PlanFirmware(p, o) // Refusal's error
	var noSeed error
	if run.Seed, noSeed = hardware.PlanSeed(p, o, salt); noSeed != nil && (err == nil || !isOutside(noSeed) && err.Error() != noSeed.Error()) {
		run.Notes = append(run.Notes, refused(noSeed)...)
	}
	config := v.config(run)
	if run.QEMU, err = qemuCommand(config); err != nil {
		return run, err
	}
	run.Confined, err = v.confinement(config, o)
	return run, err
}

// network plans a network, and the ports of the profile's NICs on it.
func (v preview) network(ctx context.Context, n profiles.Network) (Network, error) {
	network, place := nics.NetworkOf(n), rundir.Network{RunDir: v.runDir, Name: n.Name}
	facts, err := host.Observe(ctx, supervisor.QueryOf(network, v.runDir))
	if err != nil {
		return Network{}, err
	}
	_, none := os.Stat(place.Journal())
	planned, err := planOrRefusal(network, facts, plan.Options{
		Salt: v.salt, Remembered: journal.LoadSubnet(v.stateDir, n.Name), Remembered6: journal.LoadSubnet(v.stateDir, journal.Subnet6Of(n.Name)), Runs: none == nil,
		SetUp: journal.SetUpByOthers(place),
	})
	if err != nil {
		return Network{}, err
	}
	ports, err := v.ports(planned)
	if err != nil {
		return Network{}, err
	}
	for _, port := range ports {
		planned.Steps = append(planned.Steps, planned.PortSteps(port)...)
	}
	planned.Steps = append(planned.Steps, v.forwardSteps(&planned, facts, ports)...)
	np := Network{Plan: planned, Undo: apply.UndoScript(planned.Steps)}
	for _, s := range planned.Steps {
		np.Do = append(np.Do, s.String())
	}
	return np, nil
}

// forwardSteps are the rules for the forwards of the profile's NICs on the network, and the accepts
// that these need in other programs' chains.
func (v preview) forwardSteps(p *plan.Plan, facts host.Facts, nics []plan.NIC) step.List {
	var steps step.List
	for i, nic := range nics {
		if p.Prefix.IsValid() {
			steps = append(steps, p.ForwardSteps(nic.Addresses[i], v.profile.NICs[nic.Index].Forwards)...)
		}
		for _, b := range p.Barriers(facts.Filters, v.profile.NICs[nic.Index].Forwards) {
			p.Notes = append(p.Notes, fmt.Sprintf("forward %s: %s; %s", b.Forward, b.Why, b.Remedy.Sentence()))
		}
	}
	for _, s := range step.All[forward.AddForwards](steps) {
		p.Forwards = append(p.Forwards, s.Forwards...)
	}
	accepts, _ := p.AcceptSteps(facts.Filters, facts.Firewalld.Running)
	for _, a := range step.All[step.AddAccept](accepts) {
		if a.Rule.Forwards() {
			steps = append(steps, a)
		}
	}
	return steps
}

// ports are the profile's NICs on the network, with the addresses that they have unless another
// VM took one of them before. All of a VM's NICs there may use all of its addresses.
func (v preview) ports(p plan.Plan) ([]plan.NIC, error) {
	var ports []plan.NIC
	var wants []dhcp.NIC
	for i, nic := range v.profile.NICs {
		if nic.Network != p.Network.Name {
			continue
		}
		port := plan.NIC{VM: v.profile.Name, Index: i, MAC: hardware.MAC(v.profile, i, v.salt), Unguarded: nic.Unguarded, Reach: nic.Reach}
		if nic.Reach.NoLAN {
			var err error
			if port.OnLink, err = onlink.Read(); err != nil {
				return nil, err
			}
		}
		ports = append(ports, port)
		wants = append(wants, dhcp.NIC{MAC: port.MAC, Wish: nic.Address})
	}
	if !p.Prefix.IsValid() {
		return ports, nil
	}
	addresses, err := dhcp.AddressesOf(p.Prefix, p.Gateway, wants)
	if err != nil {
		return nil, err
	}
	own := v.addresses6(p, ports, addresses)
	for i := range ports {
		ports[i].Addresses, ports[i].Addresses6 = addresses, own
	}
	return ports, nil
}

// addresses6 are the IPv6 addresses of the ports, as the keeper decides about them.
func (v preview) addresses6(p plan.Plan, ports []plan.NIC, addresses []netip.Addr) []netip.Addr {
	if !p.Prefix6.IsValid() {
		return nil
	}
	var own []netip.Addr
	for i, port := range ports {
		given := v.profile.NICs[port.Index].Address6
		if !given.IsValid() {
			given = ula.Guest(p.Prefix6, addresses[i])
		}
		own = append(own, given, ula.EUI64(p.Prefix6, port.MAC))
	}
	return own
}

// refused is the note about an error by which a run is refused.
// refused returns a note for each line of an error by which a run is refused. Where the profile
// names what it may not reach, the last one says how to allow it.
func refused(err error) []string {
	var notes []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		notes = append(notes, "a run is refused: "+line)
	}
	if outside, ok := errors.AsType[reachable.Refusal](err); ok {
		notes = append(notes, outside.Hint())
	}
	return notes
}

// isOutside reports whether a profile names what it may not reach. All of that is in the error of
// hardware.MayReach.
func isOutside(err error) bool {
	_, ok := errors.AsType[*reachable.Error](err)
	return ok
}

// planOrRefusal is plan.New, but it also plans what a run does with --assume-yes only. A
// note of the plan then has the words by which a run without it is refused.
func planOrRefusal(n plan.Network, facts host.Facts, o plan.Options) (plan.Plan, error) {
	planned, refusal := plan.New(n, facts, o)
	if refusal == nil || !errors.Is(refusal, host.ErrRefused) {
		return planned, refusal
	}
	o.AssumeYes = true
	planned, err := plan.New(n, facts, o)
	if err != nil {
		return planned, refusal
	}
	planned.Notes = append(planned.Notes, refused(refusal)...)
	return planned, nil
}

// config is QEMU's machine of the run.
func (v preview) config(run Run) machine.Config {
	planned := nics.Plan(v.profile, func(network string) int {
		i := slices.IndexFunc(run.Networks, func(np Network) bool { return np.Network.Name == network })
		return run.Networks[i].MTU
	})
	return qemu.FirstTry(hardware.Config(v.profile, v.salt, run.Firmware.Files(run.Disks), planned))
}

// qemuCommand returns the command line that a run would start QEMU with.
func qemuCommand(config machine.Config) (string, error) {
	spec, err := machine.Command(config, nil, nil)
	if err != nil {
		return "", err
	}
	return "qemu-system-x86_64 " + spec.String(), nil
}

// confinement is what would confine QEMU, nil on a host without one.
func (v preview) confinement(config machine.Config, o hardware.Options) (*sandbox.Report, error) {
	if o.Getenv == nil {
		return nil, nil
	}
	var err error
	if config.Binary, err = program.Find(o.Getenv("PATH"), o.Getenv("QNET_QEMU")); err != nil {
		return nil, nil //nolint:nilerr // a plan needs no QEMU
	}
	report, err := qemu.Confinement(config, qemu.StartOptions{Credential: vmuser.Credential(o.User, v.profile.Name)})
	return &report, err
}
