package cli

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/internal/doctor"
	"github.com/qnet-vm/qnet/internal/supervisor"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
)

func (a *app) doctorCommand() *cli.Command {
	return &cli.Command{
		Name: "doctor", Usage: "tell what on this host will break which mode, and what to do", ArgsUsage: "[PROFILE]",
		Description: "With --probe, a synthetic guest joins the profile's networks (or one of mode nat) and tries what a guest needs;\n" +
			"where a packet vanishes, it says at which rule of which program.\n\nExample: sudo qnet doctor --probe vm.toml",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "probe", Usage: "play a guest on the networks, in place of the checks"},
			&cli.StringFlag{Name: "target", Usage: "have a probe connect to `HOST:PORT` outside; else to the host's gateway and resolvers"},
			&cli.StringFlag{Name: "name", Usage: "have a probe resolve `NAME`; else example.com"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		},
		Action: a.doctor,
	}
}

// errCannotWork makes the exit code 3, behind a table that says why.
var errCannotWork = errors.Join(errSilent, &exitStatus{exitIncapable})

func (a *app) doctor(c *cli.Context) error {
	var p *profiles.Profile
	if c.Args().Present() {
		var err error
		if p, err = a.profile(c); err != nil {
			return err
		}
	}
	networks := networksOf(p)
	if c.Bool("probe") {
		return a.probe(c, networks)
	}
	for _, flag := range []string{"target", "name"} {
		if c.IsSet(flag) {
			return &usage{fmt.Sprintf("doctor: --%s is for --probe", flag)}
		}
	}
	o := doctor.Options{
		RunDir: a.runDir, StateDir: a.stateDir, QEMU: a.Getenv("QNET_QEMU"), Path: a.Getenv("PATH"), User: a.user, Networks: networks,
	}
	if p != nil {
		o.Accel = p.Accel
	}
	var r doctor.Report
	var err error
	a.during("this host's checks", func() { r, err = doctor.Run(c.Context, o) })
	if err != nil {
		return err
	}
	if c.Bool("json") {
		err = a.json(r)
	} else {
		err = a.checkTable(r)
	}
	if err == nil && r.CannotWork() {
		return errCannotWork
	}
	return err
}

// networksOf returns the networks of a profile: nil without a profile, and an empty list
// for a profile without networks.
func networksOf(p *profiles.Profile) []keeper.Network {
	if p == nil {
		return nil
	}
	networks := []keeper.Network{}
	for _, n := range supervisor.NetworksOf(p) {
		networks = append(networks, supervisor.NetworkOf(n))
	}
	return networks
}

// checkTable prints a line for each finding, with its remedy below.
func (a *app) checkTable(r doctor.Report) error {
	w := tabwriter.NewWriter(a.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "CHECK\tSTATUS\tMODES\tEVIDENCE")
	for _, f := range r.Findings {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.Check, f.Status, modeList(f.Modes, len(r.Modes)), oneLine(f.Evidence))
		if f.Remedy != "" && f.Status != doctor.Pass {
			fmt.Fprintf(w, "\t\t\t-> %s\n", oneLine(f.Remedy))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	var words []string
	for _, m := range []profiles.Mode{profiles.Private, profiles.HostOnly, profiles.NAT, profiles.Bridge} {
		if s, ok := r.Modes[m]; ok {
			words = append(words, fmt.Sprintf("%s: %s", m, verdicts[s]))
		}
	}
	fmt.Fprintln(a.Stdout, strings.Join(words, ", "))
	return nil
}

// verdicts say what the worst finding about a mode means for it.
var verdicts = map[doctor.Status]string{
	doctor.Pass: "works", doctor.Unseen: "works, as far as was seen", doctor.Warn: "works, but see above", doctor.Fail: "cannot work",
}

// modeList returns the modes that a finding is about, "all" if it is about all of them.
func modeList(modes []profiles.Mode, of int) string {
	if len(modes) == of && of > 1 {
		return "all"
	}
	var words []string
	for _, m := range modes {
		words = append(words, string(m))
	}
	return orDash(strings.Join(words, ","))
}

// oneLine joins the lines of a text.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
