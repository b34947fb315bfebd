// Package services has the command for VMs that a service manager starts: when the host boots,
// and again when QEMU crashes.
package services

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/service"
	"github.com/qnet-vm/qnet/netsetup/host"
)

// services is one invocation of the command.
type services struct{ *call.Call }

// verb is the first argument of qnet service.
type verb struct {
	name, operand, usage string
	run                  func(services, *cli.Context, string) error
}

var verbs = []verb{
	{"install", "PROFILE", "have a VM started when the host boots", services.install},
	{"remove", "NAME", "no longer; the VM keeps its disk", services.remove},
	{"status", "[NAME]", "show the services of VMs", services.status},
}

// Commands returns the commands in the order of the help text. They may be run once c has its
// user and places.
func Commands(c *call.Call, startFlags func() []cli.Flag) []*cli.Command {
	var text strings.Builder
	for _, v := range verbs {
		fmt.Fprintf(&text, "%-16s %s\n", v.name+" "+v.operand, v.usage)
	}
	text.WriteString("\nEach VM has a systemd unit of its own, qnet-NAME.service.\n\nExample: sudo qnet service install --now web.toml && journalctl -u qnet-web")
	flags := append([]cli.Flag{
		&cli.BoolFlag{Name: "user", Usage: "of your own manager, started when you log in, without root"},
		&cli.BoolFlag{Name: "now", Usage: "start the service, too, or stop it"},
		&cli.BoolFlag{Name: "print", Usage: "print the unit file, and install nothing"},
		&cli.StringFlag{Name: "name", Usage: "call the VM `NAME`, not as its profile does"},
		call.JSONFlag(),
	}, lasting(startFlags())...)
	return []*cli.Command{{
		Name: "service", Usage: "run VMs as systemd services", ArgsUsage: "install|remove|status [PROFILE|NAME]",
		Description: text.String(), Flags: flags, Action: services{c}.run,
	}}
}

// lasting leaves out the flags that are for one start alone.
func lasting(flags []cli.Flag) []cli.Flag {
	return slices.DeleteFunc(flags, func(f cli.Flag) bool { return slices.Contains([]string{"verbose", "fresh"}, f.Names()[0]) })
}

// run calls the verb.
func (s services) run(c *cli.Context) error {
	args := c.Args().Slice()
	names := make([]string, len(verbs))
	for i, v := range verbs {
		if names[i] = v.name; len(args) > 0 && args[0] == v.name {
			operand, err := v.one(args[1:])
			if err != nil {
				return err
			}
			return v.run(s, c, operand)
		}
	}
	return call.UnknownVerb("service", args, names)
}

// one returns the verb's operand, "" where it needs none and got none.
func (v verb) one(operands []string) (string, error) {
	switch {
	case len(operands) > 1:
		return "", &call.Usage{Text: fmt.Sprintf("service %s takes no argument %q; see qnet service --help", v.name, operands[1])}
	case len(operands) == 1 && operands[0] != "":
		return operands[0], nil
	case len(operands) == 0 && strings.HasPrefix(v.operand, "["):
		return "", nil
	}
	return "", &call.Usage{Text: fmt.Sprintf("service %s needs %s; see qnet service --help", v.name, strings.Trim(v.operand, "[]"))}
}

// manager returns the manager that the flags ask for, and refuses one that the caller may not
// change.
func (s services) manager(c *cli.Context, changes bool) (service.Manager, error) {
	if !c.Bool("user") {
		if changes && os.Geteuid() != 0 {
			return service.Manager{}, host.Refuse("the system's services are root's to change: run sudo qnet service, or give --user for your own, which start when you log in")
		}
		return service.System(), nil
	}
	if os.Geteuid() == 0 {
		return service.Manager{}, &call.Usage{Text: "service --user is without sudo: root's services are the system's"}
	}
	config, err := os.UserConfigDir()
	if err != nil {
		return service.Manager{}, fmt.Errorf("find your directory for settings: %w", err)
	}
	return service.Users(config), nil
}
