package cli

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
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
		if options.Target, err = probe.LookupTarget(c.Context, target); err != nil {
			if errors.Is(err, probe.ErrTarget) {
				return &call.Usage{Text: fmt.Sprintf("--target: got %.80q, allowed: HOST:PORT", target)}
			}
			return err
		}
	}
	if networks == nil {
		networks = []keeper.Network{{Name: string(profiles.NAT), Mode: profiles.NAT}}
	}
	if len(networks) == 0 {
		return &call.Usage{Text: "doctor --probe: the profile has no NIC on one of qnet's networks"}
	}
	o := keeper.Options{
		RunDir: a.Places.Run, StateDir: a.Places.State, Exe: []string{"/proc/self/exe", "keeper"}, Note: a.Note, Peer: supervisor.RemotePeer(),
	}
	reports, failed := []probe.Report{}, false
	for _, n := range networks {
		var r probe.Report
		var err error
		a.During(fmt.Sprintf("a synthetic guest on network %q", n.Name), func() { r, err = probe.Run(c.Context, o, n, options) })
		if err != nil {
			return err
		}
		reports, failed = append(reports, r), failed || r.Failed()
		if !c.Bool("json") {
			if err := r.WriteText(a.Stdout); err != nil {
				return err
			}
		}
	}
	var err error
	if c.Bool("json") {
		err = a.JSON(reports)
	}
	if err == nil && failed {
		return errCannotWork
	}
	return err
}
