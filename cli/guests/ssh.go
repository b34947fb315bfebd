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
			"A guest that qnet set up at its first boot is logged in to by its account, by qnet's key, and with known host keys.\n" +
			"Of another one, ssh accepts the host key that it sees first, and knows it as long as the disk that it is on.\n" +
			"While the guest boots, it tries a refused login again.\n\n" +
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
	return g.logIn(c.Context, "ssh", r, nil)
}

// logIn runs ssh, or scp for a copy, once the guest's SSH server is there. The exit code is
// that of the program.
func (g guests) logIn(ctx context.Context, program string, r sshclient.Request, files *sshclient.Copy) error {
	client, err := g.client(program)
	if err != nil {
		return err
	}
	await := func(ctx context.Context, untried bool) (sshclient.Session, error) {
		began := time.Now()
		state, address, err := g.sshServer(ctx, r, untried)
		session := g.session(state, address, r)
		session.Booted, session.Found, session.Copy = sshclient.Booted(state.Started, began), time.Now(), files
		return session, err
	}
	// ssh's own connection shows whether the server is there. One more, to find that before, would
	// start a process in the guest, and leave a line in its log.
	untried := !r.NoWait && !r.Print && !r.PrintOptions
	session, err := await(ctx, untried)
	if err != nil {
		return err
	}
	if untried {
		session.Await = func(ctx context.Context) (sshclient.Session, error) { return await(ctx, false) }
	}
	err = client.Run(ctx, session)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return errors.Join(call.ErrSilent, &call.ExitStatus{Code: exit.ExitCode()})
	}
	return err
}

// client finds a program of OpenSSH.
func (g guests) client(program string) (sshclient.Client, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return sshclient.Client{}, fmt.Errorf("run %s: %w; install OpenSSH's client: apt install openssh-client, dnf install openssh-clients, pacman -S openssh", program, err)
	}
	return sshclient.Client{
		Program: path, As: g.User, Home: g.User.Home(g.Getenv), Getenv: g.Getenv, Stdin: g.Stdin, Stdout: g.Stdout, Stderr: g.Stderr,
		Talk: func(text string) { g.Talk("%s", text) },
	}, nil
}

// session says how to log in to a VM.
func (g guests) session(s control.State, address netip.Addr, r sshclient.Request) sshclient.Session {
	session := sshclient.Session{
		Request: r, Address: address, Disk: cmp.Or(s.Disk, "of process "+strconv.Itoa(s.PID)), StateDir: g.Places.State,
	}
	if s.Guest != nil {
		session.Seeded = sshclient.Seeded{User: s.Guest.User, Identity: s.Guest.Identity, HostKeys: s.Guest.HostKeys}
	}
	return session
}

// sshServer waits for the VM's SSH server, or for its address where that is untried, unless the
// user does not want to wait.
func (g guests) sshServer(ctx context.Context, r sshclient.Request, untried bool) (control.State, netip.Addr, error) {
	port, err := strconv.Atoi(r.Port)
	if err != nil || port < 1 || port > 65535 {
		return control.State{}, netip.Addr{}, &call.Usage{Text: fmt.Sprintf("ssh: port: got %.80q, allowed: 1 to 65535", r.Port)}
	}
	if !r.NoWait {
		return g.Await(ctx, r.VM, reach.Goal{Port: port, Untried: untried}, r.Timeout)
	}
	s, _, err := g.Places.Find(ctx, r.VM)
	if err != nil {
		return s, netip.Addr{}, err
	}
	n, address := reach.AddressOf(s)
	if !address.IsValid() {
		err = &noAddress{r.VM, n.Seen.Last().String(), s.State == control.Running && !reach.HasNetwork(s), false, false}
	}
	return s, address, err
}
