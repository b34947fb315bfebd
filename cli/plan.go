package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/legible"
	"github.com/qnet-vm/qnet/internal/preview"
	"github.com/qnet-vm/qnet/profiles"
)

func (a *app) planCommand() *cli.Command {
	return &cli.Command{
		Name: "plan", Usage: "show what a run would change on this host, and the QEMU command", ArgsUsage: "PROFILE",
		Flags: []cli.Flag{
			call.JSONFlag(), call.AllowPathFlag(),
			&cli.BoolFlag{Name: "warm", Usage: "as a run with --warm"},
		}, Action: a.plan,
	}
}

func (a *app) plan(c *cli.Context) error {
	p, err := a.Profile(c)
	if err == nil {
		err = a.Allow(c, p)
	}
	if err != nil {
		return err
	}
	runDir, stateDir := a.DirsOf(p)
	files, about, err := a.planWarm(c, p)
	if err != nil {
		return err
	}
	run, err := preview.New(c.Context, p, files, runDir, stateDir)
	if err != nil {
		return err
	}
	if about != "" {
		run.Notes = append(run.Notes, about)
	}
	if !run.Salted {
		a.Talk("note: the first run chooses this host's salt, and with it other MACs and subnets than shown here")
	}
	if c.Bool("json") {
		return a.JSON(run)
	}
	var out strings.Builder
	for _, network := range run.Networks {
		printPlan(&out, network)
	}
	out.WriteString(run.Comments())
	fmt.Fprintln(&out, "# QEMU: file descriptor 3 is QMP, 4 the serial console, then disks, taps, shares, kernel and initrd")
	if p.Accel == profiles.AccelAuto {
		fmt.Fprintln(&out, "# a run tries whether KVM works; where it does not, as with accel = \"tcg\"")
	}
	fmt.Fprintln(&out, run.QEMU)
	_, err = io.WriteString(a.Stdout, legible.Lines(out.String()))
	return err
}

func printPlan(out io.Writer, p preview.Network) {
	by := "bridge " + p.Bridge
	if p.Network.Macvtap {
		by = "macvtap on " + p.Network.Uplink
	}
	fmt.Fprintf(out, "# network %s: %s, %s", p.Network.Name, p.Network.Mode, by)
	if p.Prefix.IsValid() {
		fmt.Fprintf(out, ", %s", p.Prefix)
	}
	fmt.Fprintln(out)
	for _, note := range p.Notes {
		fmt.Fprintln(out, "# note: "+note)
	}
	for _, s := range p.Do {
		fmt.Fprintln(out, s)
	}
	fmt.Fprintf(out, "\n# afterwards\n%s\n\n", p.Undo)
}
