package cli

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/internal/supervisor"
	"github.com/qnet-vm/qnet/macgen"
	"github.com/qnet-vm/qnet/netsetup/dhcp"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
)

func (a *app) commands() []*cli.Command {
	asJSON := &cli.BoolFlag{Name: "json", Usage: "print JSON"}
	list := []*cli.Command{
		a.runCommand(),
		{
			Name: "plan", Usage: "show what a run would change on this host, and the QEMU command", ArgsUsage: "PROFILE",
			Flags: []cli.Flag{asJSON}, Action: a.plan,
		},
		{Name: "check", Usage: "show every problem of profiles", ArgsUsage: "PROFILE...", Action: a.check},
		{Name: "ps", Usage: "list running VMs", Flags: []cli.Flag{asJSON}, Action: a.ps},
		{
			Name: "stop", Usage: "stop a VM: its power button, then quit, SIGTERM, SIGKILL", ArgsUsage: "NAME",
			Flags: []cli.Flag{
				&cli.BoolFlag{Name: "force", Usage: "do not ask the guest"},
				&cli.DurationFlag{Name: "timeout", Value: 30 * time.Second, Usage: "give the guest `TIME` to shut down, such as 30s or 2m"},
			},
			Action: a.stop,
		},
		{Name: "console", Usage: "connect to a VM's serial console; Ctrl-] q leaves", ArgsUsage: "NAME", Action: a.console},
		{
			Name: "logs", Usage: "show what a VM wrote to its console, also after its end", ArgsUsage: "NAME",
			Flags:  []cli.Flag{&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on while it runs"}},
			Action: a.logs,
		},
		a.ipCommand(), a.waitCommand(), a.sshCommand(),
		{Name: "hosts", Usage: "print addresses and names of the VMs, as lines for /etc/hosts", Action: a.hosts},
		{Name: "net", Usage: "list networks: mode, bridge, prefix, uplinks, keeper, VMs, leases", Flags: []cli.Flag{asJSON}, Action: a.net},
		{Name: "mac", Usage: "print the MAC addresses of a profile, or a random one", ArgsUsage: "[PROFILE]", Action: a.mac},
		a.doctorCommand(),
		{Name: "schema", Usage: "print the JSON Schema of profiles", Action: a.schema},
		{Name: "gc", Usage: "remove what dead processes left", Action: a.gc},
		{Name: "version", Usage: "print the version", Action: a.version},
		{Name: "completion", Usage: "print shell completion", ArgsUsage: "bash|zsh|fish", Action: a.completion},
	}
	for _, c := range list {
		c.HideHelpCommand = true // VMs may be called "h" and "help"
		c.OnUsageError = usageError
		for _, f := range c.Flags {
			if f, ok := f.(*cli.BoolFlag); ok {
				f.DisableDefaultText = true
			}
		}
	}
	return list
}

func (a *app) version(c *cli.Context) error {
	if _, err := operands(c); err != nil {
		return err
	}
	fmt.Fprintln(a.Stdout, "qnet", version)
	return nil
}

func (a *app) json(v any) error {
	e := json.NewEncoder(a.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func (a *app) table(header string, rows func(w io.Writer)) error {
	w := tabwriter.NewWriter(a.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, strings.ReplaceAll(header, " ", "\t"))
	rows(w)
	return w.Flush()
}

func orDash(s string) string { return first(s, "-") }

func (a *app) check(c *cli.Context) error {
	if !c.Args().Present() {
		return &usage{"check needs a PROFILE; see qnet check --help"}
	}
	var errs []error
	for _, path := range c.Args().Slice() {
		_, err := a.load(path, "")
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (a *app) ps(c *cli.Context) error {
	if _, err := operands(c); err != nil {
		return err
	}
	states, err := a.list()
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return a.json(states)
	}
	return a.table("NAME STATE MODE NETWORK ADDRESS MAC TAP UPTIME", func(w io.Writer) {
		for _, s := range states {
			name, state, uptime := s.Name, s.State, time.Since(s.Started).Truncate(time.Second).String()
			for _, n := range s.NICs {
				address := n.Address
				if list := n.Addresses(); len(list) > 0 {
					address = list[0].String()
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, state, n.Mode, orDash(n.Network), orDash(address), n.MAC, orDash(n.Tap), uptime)
				name, state, uptime = "", "", "" // the VM's further NICs
			}
			if len(s.NICs) == 0 {
				fmt.Fprintf(w, "%s\t%s\t-\t-\t-\t-\t-\t%s\n", name, state, uptime)
			}
		}
	})
}

func (a *app) stop(c *cli.Context) error {
	args, err := operands(c, "NAME")
	if err != nil {
		return err
	}
	if timeout := c.Duration("timeout"); timeout <= 0 {
		return &usage{fmt.Sprintf("stop: --timeout: got %s, allowed: more than 0s; --force does not ask the guest", timeout)}
	}
	_, runDir, err := a.find(args[0])
	if err != nil {
		return err
	}
	waits := a.waits(args[0])
	defer waits("")
	defer onInterrupt(func() { waits("") })()
	return supervisor.Stop(c.Context, runDir, args[0], supervisor.StopOptions{
		Force: c.Bool("force"), Timeout: c.Duration("timeout"),
		Report: func(rung string) {
			a.talk("%s: %s", args[0], rung)
			waits(rungWait(rung, c.Duration("timeout")))
		},
		Ended: func() { waits("what was made for it to be undone") },
	})
}

func (a *app) console(c *cli.Context) error {
	args, err := operands(c, "NAME")
	if err != nil {
		return err
	}
	_, runDir, err := a.find(args[0])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(c.Context)
	defer cancel()
	terminal := supervisor.NewTerminal(a.Stdin, a.Stdout)
	if terminal == nil {
		return supervisor.Console(ctx, runDir, args[0], a.Stdin, a.Stdout)
	}
	var in io.Reader = a.Stdin
	if terminal.HasKeys() {
		a.talk("Ctrl-] q leaves")
		in = terminal.Keys(func() bool {
			cancel()
			return true
		})
	}
	return showGuest(terminal, func() error { return supervisor.Console(ctx, runDir, args[0], in, terminal) })
}

// showGuest gives the terminal to a guest while f writes to it.
func showGuest(terminal *supervisor.Terminal, f func() error) error {
	if err := terminal.Begin(); err != nil {
		return fmt.Errorf("set terminal raw: %w", err)
	}
	restore := func() { terminal.Restore() } //nolint:errcheck // nothing better can be done
	defer restore()
	defer onInterrupt(restore)()
	return f()
}

func (a *app) net(c *cli.Context) error {
	if _, err := operands(c); err != nil {
		return err
	}
	infos, err := keeper.List(c.Context, a.runDir)
	if err != nil {
		return err
	}
	if a.elsewhere != "" {
		more, err := keeper.List(c.Context, a.elsewhere)
		if errors.Is(err, host.ErrNoPermission) {
			a.talk("note: networks run that only root may ask: sudo qnet net")
		} else if err != nil {
			return err
		}
		infos = append(infos, more...)
	}
	if c.Bool("json") {
		if infos == nil {
			infos = []keeper.Info{}
		}
		return a.json(infos)
	}
	if err := a.table("NAME MODE BRIDGE PREFIX UPLINKS KEEPER VMS", func(w io.Writer) { networkRows(w, infos) }); err != nil {
		return err
	}
	return a.leases(infos)
}

func networkRows(w io.Writer, infos []keeper.Info) {
	for _, n := range infos {
		prefix := ""
		if n.Prefix.IsValid() {
			prefix = n.Prefix.String()
		}
		var vms []string
		for _, vm := range n.VMs {
			vms = append(vms, vm.Name)
		}
		bridge := n.Bridge
		if n.Macvtap {
			bridge = "(macvtap)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", n.Name, n.Mode, orDash(bridge), orDash(prefix),
			orDash(strings.Join(n.Uplinks, ",")), n.KeeperPID, orDash(strings.Join(vms, ",")))
	}
}

// leases lists the DHCP clients of the networks that have any, and what does not work.
func (a *app) leases(infos []keeper.Info) error {
	if slices.ContainsFunc(infos, func(n keeper.Info) bool { return len(n.Leases) > 0 }) {
		fmt.Fprintln(a.Stdout)
		err := a.table("NETWORK ADDRESS MAC NAME LEASE", func(w io.Writer) {
			for _, n := range infos {
				for _, l := range n.Leases {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", n.Name, l.Address, l.MAC, orDash(l.Host), leaseState(l))
				}
			}
		})
		if err != nil {
			return err
		}
	}
	for _, n := range infos {
		for _, note := range n.Notes {
			a.talk("warning: network %s: %s", n.Name, note)
		}
	}
	return nil
}

func leaseState(l dhcp.Lease) string {
	switch {
	case l.VM && l.Bound:
		return "taken"
	case l.VM:
		return "reserved"
	case l.Bound:
		return l.Left.String()
	}
	return "offered"
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
	p, err := a.profile(c)
	if err != nil {
		return err
	}
	salt, err := journal.LoadSalt(a.stateOf(p))
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w: %w", host.ErrNoPermission, err)
	}
	if err != nil {
		return err
	}
	for i := range p.NICs {
		fmt.Fprintln(a.Stdout, supervisor.MAC(p, i, salt))
	}
	return nil
}

func (a *app) schema(c *cli.Context) error {
	if _, err := operands(c); err != nil {
		return err
	}
	b, err := profiles.Schema()
	if err != nil {
		return err
	}
	_, err = a.Stdout.Write(b)
	return err
}

func (a *app) gc(c *cli.Context) error {
	if _, err := operands(c); err != nil {
		return err
	}
	var networks, vms []string
	var netErr, vmErr error
	a.during("what dead processes left to be undone", func() {
		networks, netErr = keeper.Collect(c.Context, keeper.Options{RunDir: a.runDir, StateDir: a.stateDir})
		vms, vmErr = supervisor.Collect(a.runDir)
	})
	for _, what := range append(networks, vms...) {
		fmt.Fprintln(a.Stdout, "removed", what)
	}
	return errors.Join(netErr, vmErr)
}
