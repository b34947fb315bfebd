package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/internal/supervisor"
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu"
)

// networkPlan is one network's part of `qnet plan --json`.
type networkPlan struct {
	plan.Plan
	Do   []string `json:"do"`
	Undo string   `json:"undo"`
}

func (a *app) plan(c *cli.Context) error {
	p, err := a.profile(c)
	if err != nil {
		return err
	}
	// Planning changes nothing, so a salt that is not there yet is not made.
	salt, err := os.ReadFile(filepath.Join(a.stateOf(p), "salt"))
	if err != nil {
		a.talk("note: the first run chooses this host's salt, and with it other MACs and subnets than shown here")
	}
	var plans []networkPlan
	for _, n := range supervisor.NetworksOf(p) {
		plan, err := a.planNetwork(p, n, salt)
		if err != nil {
			return err
		}
		plans = append(plans, plan)
	}
	command, err := a.qemuCommand(p, plans, salt)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return a.json(struct {
			Networks []networkPlan `json:"networks"`
			QEMU     string        `json:"qemu"`
		}{plans, command})
	}
	for _, plan := range plans {
		a.printPlan(plan)
	}
	fmt.Fprintln(a.Stdout, "# QEMU: file descriptor 3 is QMP, 4 the serial console, then disks, taps, kernel and initrd")
	if p.Accel == profiles.AccelAuto {
		fmt.Fprintln(a.Stdout, "# a run tries whether KVM works; where it does not, as with accel = \"tcg\"")
	}
	fmt.Fprintln(a.Stdout, command)
	return nil
}

func (a *app) planNetwork(p *profiles.Profile, n profiles.Network, salt []byte) (networkPlan, error) {
	network := supervisor.NetworkOf(n)
	facts, err := host.Observe(network.Query())
	if err != nil {
		return networkPlan{}, err
	}
	facts.Configurators = managers.Running(context.TODO())
	if facts.Firewalld, err = firewalld.Observe(context.TODO()); err != nil {
		a.talk("note: %v", err)
	}
	planned, err := plan.New(
		network, facts,
		plan.Options{Salt: salt, Remembered: journal.Remembered(a.stateOf(p), n.Name)})
	if err != nil {
		return networkPlan{}, err
	}
	for i, nic := range p.NICs {
		if nic.Network == n.Name {
			planned.Steps = append(planned.Steps, planned.PortSteps(plan.Port{VM: p.Name, NIC: i, MAC: supervisor.MAC(p, i, salt)})...)
		}
	}
	np := networkPlan{Plan: planned, Undo: step.UndoScript(planned.Steps)}
	for _, s := range planned.Steps {
		np.Do = append(np.Do, s.String())
	}
	return np, nil
}

func (a *app) printPlan(p networkPlan) {
	by := "bridge " + p.Bridge
	if p.Network.Macvtap {
		by = "macvtap on " + p.Network.Uplink
	}
	fmt.Fprintf(a.Stdout, "# network %s: %s, %s", p.Network.Name, p.Network.Mode, by)
	if p.Prefix.IsValid() {
		fmt.Fprintf(a.Stdout, ", %s", p.Prefix)
	}
	fmt.Fprintln(a.Stdout)
	for _, note := range p.Notes {
		fmt.Fprintln(a.Stdout, "# note: "+note)
	}
	for _, s := range p.Do {
		fmt.Fprintln(a.Stdout, s)
	}
	fmt.Fprintf(a.Stdout, "\n# afterwards\n%s\n\n", p.Undo)
}

func (a *app) qemuCommand(p *profiles.Profile, plans []networkPlan, salt []byte) (string, error) {
	config := qemu.Config{
		Name: p.Name, Memory: p.Memory, CPUs: p.CPUs, Accel: string(p.Accel), CPU: p.CPU, Machine: p.Machine, Cmdline: p.Boot.Cmdline,
	}
	if p.Accel == profiles.AccelAuto {
		config.Accel = qemu.AccelTCG
		if f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err == nil {
			f.Close()
			config.Accel = qemu.AccelKVM
		}
	}
	// The command line only numbers files: any will do to say that one is there.
	present := os.Stdin
	if p.Boot.Kernel != "" {
		config.Kernel = present
	}
	if p.Boot.Initrd != "" {
		config.Initrd = present
	}
	for _, d := range p.Disks {
		config.Disks = append(config.Disks, qemu.Disk{File: present, Format: d.Format, Snapshot: d.Snapshot, ReadOnly: d.ReadOnly})
	}
	for i, n := range p.NICs {
		nic := qemu.NIC{Model: n.Model, MAC: supervisor.MAC(p, i, salt), User: n.Mode == profiles.User}
		if n.Mode.NeedsNetwork() {
			nic.Taps = []*os.File{present}
			on := slices.IndexFunc(plans, func(np networkPlan) bool { return np.Network.Name == n.Network })
			nic.MTU = supervisor.HostMTU(n, plans[on].MTU)
		}
		if n.Mode != profiles.None {
			config.NICs = append(config.NICs, nic)
		}
	}
	spec, err := qemu.Command(config, nil, nil)
	if err != nil {
		return "", err
	}
	return "qemu-system-x86_64 " + spec.String(), nil
}
