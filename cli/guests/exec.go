package guests

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/guestagent"
	"github.com/qnet-vm/qnet/internal/reach"
	"github.com/qnet-vm/qnet/internal/sshclient"
)

func (g guests) execCommand() *cli.Command {
	return &cli.Command{
		Name: "exec", Usage: "run a command in a VM, by SSH or the guest agent", ArgsUsage: "[--agent] [-t] [USER@]NAME [--] COMMAND ...",
		Description: "Options stand before NAME. The command gets its words as they are; its exit code is qnet's, and 255 is ssh's own.\n" +
			"In a VM without a network, or with --agent, QEMU's guest agent runs it: as root,\n" +
			"without input. Its output comes when it has ended.\n\n" +
			"Examples: qnet exec web -- sudo apt-get -y install git\n   tar -c src | qnet exec web -- tar -x -C /tmp",
		SkipFlagParsing: true, // what follows NAME is the command's; sshclient.ParseExec reads these
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "agent", Usage: "by QEMU's guest agent (guest_agent in [devices]), not by SSH"},
			&cli.BoolFlag{Name: "tty", Aliases: []string{"t"}, Usage: "give the command a terminal"},
			&cli.StringFlag{Name: "login", Aliases: []string{"l"}, Usage: "log in as `USER`"},
			&cli.DurationFlag{Name: "timeout", Value: sshTime, Usage: "wait for the port, or the guest agent's command, for `TIME`, such as 30s or 2m"},
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
	runDir, agent, err := g.wantsAgent(c.Context, r.VM, r.Agent)
	switch {
	case err != nil:
		return err
	case agent:
		return g.byAgent(c.Context, runDir, r)
	}
	return g.logIn(c.Context, "ssh", r, nil)
}

// wantsAgent reports whether the guest agent works in place of SSH: because the user says so,
// or the VM has no network. The error is for a VM that is not found, where the user says so.
func (g guests) wantsAgent(ctx context.Context, vm string, said bool) (runDir string, agent bool, err error) {
	s, runDir, err := g.Places.Find(ctx, vm)
	if said {
		return runDir, err == nil, err
	}
	return runDir, err == nil && s.Launched() && !reach.HasNetwork(s), nil
}

// mostOutput bounds what the guest agent gives of a command's output, in bytes of the answer.
const mostOutput = 16 << 20

// byAgent has QEMU's guest agent run a command.
func (g guests) byAgent(ctx context.Context, runDir string, r sshclient.Request) error {
	var result guestagent.Result
	op := control.Operation{Name: guestagent.Operation, Args: guestagent.Args{Words: r.Words, Within: r.Timeout}, Most: mostOutput}
	if err := control.Do(ctx, runDir, r.VM, op, &result, control.DoOptions{}); err != nil {
		return err
	}
	_, outErr := g.Stdout.Write(result.Out)
	_, errErr := g.Stderr.Write(result.Err)
	if err := errors.Join(outErr, errErr); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	if result.Cut != "" {
		g.Talk("%s: the guest agent cut the output", r.VM)
	}
	if result.Code != 0 {
		return errors.Join(call.ErrSilent, &call.ExitStatus{Code: result.Code})
	}
	return nil
}

func (g guests) copyCommand() *cli.Command {
	return &cli.Command{
		Name: "cp", Usage: "copy files to a VM, from it, or between two, by SSH or the guest agent", ArgsUsage: "[-r] SOURCE ... TARGET",
		Description: "Files of a VM are [USER@]NAME:PATH; a relative PATH starts from the user's home.\nBetween two VMs they go through this host, which keeps none.\n" +
			"To and from a VM without a network, or with --agent, QEMU's guest agent copies files: as root,\n" +
			"no folders; PATH begins with /.\n\n" +
			"Examples: qnet cp -r src web:\n   qnet cp web:/var/log/syslog .\n   qnet cp web:dump.sql db:",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "agent", Usage: "by QEMU's guest agent (guest_agent in [devices]), not by SSH"},
			&cli.BoolFlag{Name: "recursive", Aliases: []string{"r"}, Usage: "copy folders"},
			&cli.BoolFlag{Name: "times", Aliases: []string{"p"}, Usage: "keep times and permissions"},
			&cli.DurationFlag{Name: "timeout", Value: sshTime, Usage: "wait for the port, or the guest agent's copies, for `TIME`, such as 30s or 2m"},
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
	runDir, agent, err := g.wantsAgent(c.Context, o.VM, c.Bool("agent"))
	switch {
	case err != nil:
		return err
	case agent:
		return g.copyByAgent(c.Context, runDir, o, c.Duration("timeout"))
	}
	to := sshclient.Request{VM: o.VM, Login: o.Login, Port: "22", Timeout: c.Duration("timeout")}
	if o.FromVM != "" {
		from := to
		from.VM, from.Login = o.FromVM, o.FromLogin
		state, address, err := g.sshServer(c.Context, from, false)
		if err != nil {
			return err
		}
		session := g.session(state, address, from)
		o.From = &session
	}
	return g.logIn(c.Context, "scp", to, &o.Copy)
}
