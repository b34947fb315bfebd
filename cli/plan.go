package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/internal/supervisor"
	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu"
)

// runPlan is what `qnet plan --json` prints.
type runPlan struct {
	Networks []networkPlan `json:"networks"`
	QEMU     string        `json:"qemu"`
}

// networkPlan is one network's part of it.
type networkPlan struct {
	plan.Plan
	Do   []string `json:"do"`
	Undo string   `json:"undo"`
}

func (a *app) planCommand() *cli.Command {
	return &cli.Command{
		Name: "plan", Usage: "show what a run would change on this host, and the QEMU command", ArgsUsage: "PROFILE",
		Flags: []cli.Flag{jsonFlag()}, Action: a.plan,
	}
}

func (a *app) plan(c *cli.Context) error {
	p, err := a.profile(c)
	if err != nil {
		return err
	}
	run, err := a.planRun(c.Context, p)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return a.json(run)
	}
	for _, network := range run.Networks {
		a.printPlan(network)
	}
	fmt.Fprintln(a.Stdout, "# QEMU: file descriptor 3 is QMP, 4 the serial console, then disks, taps, kernel and initrd")
	if p.Accel == profiles.AccelAuto {
		fmt.Fprintln(a.Stdout, "# a run tries whether KVM works; where it does not, as with accel = \"tcg\"")
	}
	fmt.Fprintln(a.Stdout, run.QEMU)
	return nil
}

// planRun plans all that a run does. It changes nothing: it does not make the salt.
func (a *app) planRun(ctx context.Context, p *profiles.Profile) (run runPlan, err error) {
	salt, err := os.ReadFile(filepath.Join(a.stateDirOf(p), "salt"))
	if err != nil {
		a.talk("note: the first run chooses this host's salt, and with it other MACs and subnets than shown here")
	}
	for _, n := range supervisor.NetworksOf(p) {
		network, err := a.planNetwork(ctx, p, n, salt)
		if err != nil {
			return run, err
		}
		run.Networks = append(run.Networks, network)
	}
	run.QEMU, err = qemuCommand(p, run.Networks, salt)
	return run, err
}

// planNetwork plans a network, and the ports of the profile's NICs on it.
func (a *app) planNetwork(ctx context.Context, p *profiles.Profile, n profiles.Network, salt []byte) (networkPlan, error) {
	network := supervisor.NetworkOf(n)
	q := network.Query()
	q.Original = journal.OriginalSysctls(rundir.Network{RunDir: a.runDirOf(p), Name: n.Name})
	q.Ask, q.Peer = q.LAN && os.Geteuid() == 0, supervisor.RemotePeer()
	facts, err := host.Observe(ctx, q)
	if err != nil {
		return networkPlan{}, err
	}
	planned, err := planOrRefusal(network, facts, plan.Options{Salt: salt, Remembered: journal.LoadSubnet(a.stateDirOf(p), n.Name)})
	if err != nil {
		return networkPlan{}, err
	}
	for i, nic := range p.NICs {
		if nic.Network == n.Name {
			planned.Steps = append(planned.Steps, planned.PortSteps(plan.NIC{VM: p.Name, Index: i, MAC: supervisor.MAC(p, i, salt)})...)
		}
	}
	np := networkPlan{Plan: planned, Undo: apply.UndoScript(planned.Steps)}
	for _, s := range planned.Steps {
		np.Do = append(np.Do, s.String())
	}
	return np, nil
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
	planned.Notes = append(planned.Notes, "a run is refused: "+refusal.Error())
	return planned, nil
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

// qemuCommand returns the command line that a run would start QEMU with.
func qemuCommand(p *profiles.Profile, plans []networkPlan, salt []byte) (string, error) {
	nics := supervisor.PlanNICs(p, func(network string) int {
		i := slices.IndexFunc(plans, func(np networkPlan) bool { return np.Network.Name == network })
		return plans[i].MTU
	})
	config := qemu.FirstTry(supervisor.QEMUConfig(p, salt, supervisor.Files{}, nics))
	spec, err := qemu.Command(config, nil, nil)
	if err != nil {
		return "", err
	}
	return "qemu-system-x86_64 " + spec.String(), nil
}
