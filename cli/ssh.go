package cli

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

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/reach"
	"github.com/qnet-vm/qnet/internal/sshclient"
)

// sshTime is how long `qnet ssh` waits by default.
const sshTime = 2 * time.Minute

func (a *app) sshCommand() *cli.Command {
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
		Action: a.ssh,
	}
}

func (a *app) ssh(c *cli.Context) error {
	r, err := sshclient.Parse(c.Args().Slice(), sshTime)
	switch {
	case err != nil:
		return &usage{err.Error()}
	case r.Help:
		return cli.ShowSubcommandHelp(c)
	case r.VM == "":
		return &usage{"ssh needs NAME; see qnet ssh --help"}
	}
	program, err := exec.LookPath("ssh")
	if err != nil {
		return fmt.Errorf("run ssh: %w", err)
	}
	began := time.Now()
	state, address, err := a.sshServer(c.Context, r)
	if err != nil {
		return err
	}
	client := sshclient.Client{
		Program: program, As: a.user, Home: a.user.Home(a.Getenv), Getenv: a.Getenv, Stdin: a.Stdin, Stdout: a.Stdout, Stderr: a.Stderr,
		Talk: func(text string) { a.talk("%s", text) },
	}
	err = client.Run(c.Context, sshclient.Session{
		Request: r, Address: address, Disk: cmp.Or(state.Disk, "of process "+strconv.Itoa(state.PID)), StateDir: a.places.State,
		Booted: sshclient.Booted(state.Started, began),
	})
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return errors.Join(errSilent, &exitStatus{exit.ExitCode()})
	}
	return err
}

// sshServer waits for the VM's SSH server, unless the user does not want to wait.
func (a *app) sshServer(ctx context.Context, r sshclient.Request) (control.State, netip.Addr, error) {
	port, err := strconv.Atoi(r.Port)
	if err != nil || port < 1 || port > 65535 {
		return control.State{}, netip.Addr{}, &usage{fmt.Sprintf("ssh: port: got %.80q, allowed: 1 to 65535", r.Port)}
	}
	if !r.NoWait {
		return a.await(ctx, r.VM, reach.Goal{Port: port}, r.Timeout)
	}
	s, _, err := a.places.Find(ctx, r.VM)
	if err != nil {
		return s, netip.Addr{}, err
	}
	n, address := reach.AddressOf(s)
	if !address.IsValid() {
		err = &noAddress{r.VM, n.Seen.Last().String(), s.State == control.Running && !reach.HasNetwork(s)}
	}
	return s, address, err
}

// exitStatus makes an exit code that of qnet: another program's, or one that a table
// explains.
type exitStatus struct{ code int }

// Error returns a text that is not printed: the user has seen the cause.
func (e *exitStatus) Error() string { return fmt.Sprintf("exit status %d", e.code) }
