package guests

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/reach"
	"github.com/qnet-vm/qnet/internal/sshclient"
)

// sshTime is how long `qnet ssh` waits by default.
const sshTime = 2 * time.Minute

func (g guests) sshCommand() *cli.Command {
	return &cli.Command{
		Name: "ssh", Usage: "wait for a VM's SSH port and run ssh", ArgsUsage: "[SSH OPTIONS] [USER@]NAME [COMMAND]",
		Description: "Options of ssh(1) stand on either side of NAME; a command begins behind it, or behind --.\n" +
			"qnet keeps host keys in a file of its own for each VM. It accepts a key that it sees first, and knows it as long as\n" +
			"the disk that it is on. While the guest boots, it tries a refused login again.\n\n" +
			"Examples: qnet ssh -i key -L 8080:localhost:80 admin@web\n   scp $(qnet ssh --print-options web) FILE admin@web:\n   rsync -e 'qnet ssh' FILE admin@web:",
		SkipFlagParsing: true, // ssh's options are not known here; sshclient.Parse reads them, and these
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "login", Aliases: []string{"l"}, Usage: "log in as `USER`"},
			&cli.DurationFlag{Name: "timeout", Value: sshTime, Usage: "wait for the port for `TIME`, such as 30s or 2m"},
			&cli.BoolFlag{Name: "no-wait", Usage: "wait for nothing, and try once"},
			&cli.BoolFlag{Name: "print", Usage: "print the command line of ssh, for a shell"},
			&cli.BoolFlag{Name: "print-options", Usage: "print the options that ssh, scp and sftp need"},
		},
		Action: g.ssh,
	}
}

func (g guests) ssh(c *cli.Context) error {
	r, err := sshclient.Parse(c.Args().Slice(), sshTime)
	switch {
	case err != nil:
		return &call.Usage{Text: err.Error()}
	case r.Help:
		return cli.ShowSubcommandHelp(c)
	case r.VM == "":
		return &call.Usage{Text: "ssh needs NAME; see qnet ssh --help"}
	}
	program, err := exec.LookPath("ssh")
	if err != nil {
		return fmt.Errorf("run ssh: %w", err)
	}
	began := time.Now()
	state, address, err := g.sshServer(c.Context, r)
	if err != nil {
		return err
	}
	client := sshclient.Client{
		Program: program, As: g.User, Home: g.User.Home(g.Getenv), Getenv: g.Getenv, Stdin: g.Stdin, Stdout: g.Stdout, Stderr: g.Stderr,
		Talk: func(text string) { g.Talk("%s", text) },
	}
	err = client.Run(c.Context, sshclient.Session{
		Request: r, Address: address, Disk: cmp.Or(state.Disk, "of process "+strconv.Itoa(state.PID)), StateDir: g.Places.State,
		Booted: sshclient.Booted(state.Started, began),
	})
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return errors.Join(call.ErrSilent, &call.ExitStatus{Code: exit.ExitCode()})
	}
	return err
}

// sshServer waits for the VM's SSH server, unless the user does not want to wait.
func (g guests) sshServer(ctx context.Context, r sshclient.Request) (control.State, netip.Addr, error) {
	port, err := strconv.Atoi(r.Port)
	if err != nil || port < 1 || port > 65535 {
		return control.State{}, netip.Addr{}, &call.Usage{Text: fmt.Sprintf("ssh: port: got %.80q, allowed: 1 to 65535", r.Port)}
	}
	if !r.NoWait {
		return g.Await(ctx, r.VM, reach.Goal{Port: port}, r.Timeout)
	}
	s, _, err := g.Places.Find(ctx, r.VM)
	if err != nil {
		return s, netip.Addr{}, err
	}
	n, address := reach.AddressOf(s)
	if !address.IsValid() {
		err = &noAddress{r.VM, n.Seen.Last().String(), s.State == control.Running && !reach.HasNetwork(s)}
	}
	return s, address, err
}
