package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/internal/doctor/probe"
	"github.com/qnet-vm/qnet/internal/supervisor"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
)

// probe plays a guest on each of the networks, one after the other. nil stands for a
// network of mode nat.
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
		r, err := a.probeNetwork(c.Context, n, options)
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

func (a *app) probeNetwork(ctx context.Context, n keeper.Network, o probe.Options) (r probe.Report, err error) {
	a.during(fmt.Sprintf("a synthetic guest on network %q", n.Name), func() {
		r, err = probe.Run(ctx, keeper.Options{
			RunDir: a.runDir, StateDir: a.stateDir, Exe: []string{"/proc/self/exe", "keeper"}, Note: a.note,
			Peer: supervisor.RemotePeer(),
		}, n, o)
	})
	return r, err
}

// targetTimeout bounds the look-up of a target's name.
const targetTimeout = 5 * time.Second

// lookupTarget returns the address and port of HOST:PORT.
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
	ctx, cancel := context.WithTimeout(ctx, targetTimeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("look up --target: %w", err)
	}
	return netip.AddrPortFrom(addrs[0].Unmap(), uint16(number)), nil
}

// stepTable prints a line for each step, with the cause of a failure below.
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
