package guests

import (
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/sshclient"
)

func (g guests) execCommand() *cli.Command {
	return &cli.Command{
		Name: "exec", Usage: "run a command in a VM, by SSH", ArgsUsage: "[-t] [USER@]NAME [--] COMMAND ...",
		Description: "Options stand before NAME. The command gets its words as they are; its exit code is qnet's, and 255 is ssh's own.\n\n" +
			"Examples: qnet exec web -- sudo apt-get -y install git\n   tar -c src | qnet exec web -- tar -x -C /tmp",
		SkipFlagParsing: true, // what follows NAME is the command's; sshclient.ParseExec reads these
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "tty", Aliases: []string{"t"}, Usage: "give the command a terminal"},
			&cli.StringFlag{Name: "login", Aliases: []string{"l"}, Usage: "log in as `USER`"},
			&cli.DurationFlag{Name: "timeout", Value: sshTime, Usage: "wait for the port for `TIME`, such as 30s or 2m"},
		},
		Action: g.exec,
	}
}

func (g guests) exec(c *cli.Context) error {
	r, err := sshclient.ParseExec(c.Args().Slice(), sshTime)
	switch {
	case errors.Is(err, sshclient.ErrHelp):
		return cli.ShowSubcommandHelp(c)
	case err != nil:
		return &call.Usage{Text: err.Error()}
	}
	return g.logIn(c.Context, "ssh", r, nil)
}

func (g guests) copyCommand() *cli.Command {
	return &cli.Command{
		Name: "cp", Usage: "copy files to a VM, from it, or between two, by SSH", ArgsUsage: "[-r] SOURCE ... TARGET",
		Description: "Files of a VM are [USER@]NAME:PATH; a relative PATH starts from the user's home.\nBetween two VMs they go through this host, which keeps none.\n\n" +
			"Examples: qnet cp -r src web:\n   qnet cp web:/var/log/syslog .\n   qnet cp web:dump.sql db:",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "recursive", Aliases: []string{"r"}, Usage: "copy folders"},
			&cli.BoolFlag{Name: "times", Aliases: []string{"p"}, Usage: "keep times and permissions"},
			&cli.DurationFlag{Name: "timeout", Value: sshTime, Usage: "wait for the port for `TIME`, such as 30s or 2m"},
		},
		Action: g.copyFiles,
	}
}

func (g guests) copyFiles(c *cli.Context) error {
	o, err := sshclient.ParseCopy(c.Args().Slice())
	if err != nil {
		return &call.Usage{Text: err.Error()}
	}
	o.Recursive, o.Times = c.Bool("recursive"), c.Bool("times")
	to := sshclient.Request{VM: o.VM, Login: o.Login, Port: "22", Timeout: c.Duration("timeout")}
	if o.FromVM != "" {
		from := to
		from.VM, from.Login = o.FromVM, o.FromLogin
		state, address, err := g.sshServer(c.Context, from)
		if err != nil {
			return err
		}
		session := g.session(state, address, from)
		o.From = &session
	}
	return g.logIn(c.Context, "scp", to, &o.Copy)
}
