package cli

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/internal/hardware"
	"github.com/qnet-vm/qnet/internal/nics"
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/macgen"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/journal"
)

func (a *app) macCommand() *cli.Command {
	return &cli.Command{Name: "mac", Usage: "print the MAC addresses of a profile, or a random one", ArgsUsage: "[PROFILE]", Action: a.mac}
}

func (a *app) mac(c *cli.Context) error {
	if !c.Args().Present() {
		mac, err := macgen.Random(rand.Reader)
		if err != nil {
			return err
		}
		fmt.Fprintln(a.Stdout, mac)
		return nil
	}
	p, err := a.Profile(c)
	if err != nil {
		return err
	}
	_, stateDir := a.DirsOf(p)
	salt, err := journal.LoadSalt(stateDir)
	if errors.Is(err, fs.ErrPermission) && len(nics.NetworksOf(p)) > 0 {
		return fmt.Errorf("%w: %w", host.ErrNoPermission, err)
	}
	if err != nil {
		return &rundir.Unusable{What: "state directory", Dir: stateDir, Err: err}
	}
	for i := range p.NICs {
		fmt.Fprintln(a.Stdout, hardware.MAC(p, i, salt))
	}
	return nil
}
