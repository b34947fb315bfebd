package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/internal/doctor"
	"github.com/qnet-vm/qnet/internal/doctor/probe"
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

// errCannotWork is the exit code 3 of a table that says why.
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

// networksOf are a profile's networks; of a profile without any it is empty, and nil
// without a profile.
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

// checkTable prints a line for each finding, its remedy below it.
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

// verdicts word what the worst finding of a mode means for it.
var verdicts = map[doctor.Status]string{
	doctor.Pass: "works", doctor.Unseen: "works, as far as was seen", doctor.Warn: "works, but see above", doctor.Fail: "cannot work",
}

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

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// probe plays a guest on each of the networks, one after the other.
func (a *app) probe(c *cli.Context, networks []keeper.Network) error {
	options := probe.Options{Name: c.String("name")}
	if target := c.String("target"); target != "" {
		var err error
		if options.Target, err = lookupTarget(c.Context, target); err != nil {
			return err
		}
	}
	if networks == nil {
		networks = []keeper.Network{{Name: string(profiles.NAT), Mode: profiles.NAT}}
	}
	if len(networks) == 0 {
		return &usage{"doctor --probe: the profile has no NIC on one of qnet's networks"}
	}
	reports, failed := []probe.Report{}, false
	for _, n := range networks {
		var r probe.Report
		var err error
		a.during(fmt.Sprintf("a synthetic guest on network %q", n.Name), func() {
			r, err = probe.Run(c.Context, keeper.Options{
				RunDir: a.runDir, StateDir: a.stateDir, Exe: []string{"/proc/self/exe", "keeper"}, Note: func(s string) { a.talk("note: %s", s) },
				Peer: supervisor.RemotePeer(),
			}, n, options)
		})
		if err != nil {
			return err
		}
		reports, failed = append(reports, r), failed || r.Failed()
		if !c.Bool("json") {
			if err := a.stepTable(r); err != nil {
				return err
			}
		}
	}
	if c.Bool("json") {
		if err := a.json(reports); err != nil {
			return err
		}
	}
	if failed {
		return errCannotWork
	}
	return nil
}

// targetTime bounds the look-up of a target's name by the host.
const targetTime = 5 * time.Second

func lookupTarget(ctx context.Context, target string) (netip.AddrPort, error) {
	bad := &usage{fmt.Sprintf("--target: got %.80q, allowed: HOST:PORT", target)}
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		return netip.AddrPort{}, bad
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return netip.AddrPort{}, bad
	}
	ctx, cancel := context.WithTimeout(ctx, targetTime)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("look up --target: %w", err)
	}
	return netip.AddrPortFrom(addrs[0].Unmap(), uint16(number)), nil
}

// stepTable prints a line for each step, what a failed one's cause is below it.
func (a *app) stepTable(r probe.Report) error {
	fmt.Fprintf(a.Stdout, "network %s: %s, bridge %s, in %s\n", r.Network, r.Mode, r.Bridge, r.Took.Round(time.Millisecond))
	return a.table("STEP OUTCOME TIME DETAIL", func(w io.Writer) {
		for _, s := range r.Steps {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.Name, s.Outcome, s.Took.Round(10*time.Microsecond), oneLine(s.Detail))
			if s.Cause != "" {
				fmt.Fprintf(w, "\t\t\t-> %s\n", oneLine(s.Cause))
			}
		}
	})
}
