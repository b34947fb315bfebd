package cli

import (
	"time"

	"github.com/urfave/cli/v2"
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
