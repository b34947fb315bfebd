package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
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
	state, address, err := a.sshServer(c.Context, r)
	if err != nil {
		return err
	}
	s := sshclient.Session{Request: r, Address: address, Disk: state.Disk, StateDir: a.stateDir}
	if s.Disk == "" {
		s.Disk = "of process " + strconv.Itoa(state.PID)
	}
	knownHosts, err := s.Prepare(a.user, a.user.Home(a.Getenv))
	if err != nil {
		return err
	}
	switch {
	case r.PrintOptions:
		fmt.Fprintln(a.Stdout, sshclient.Quote(s.Options(knownHosts)))
		return nil
	case r.Print:
		fmt.Fprintln(a.Stdout, sshclient.Quote(append([]string{"ssh"}, s.Arguments(knownHosts)...)))
		return nil
	}
	return a.login(c.Context, program, s, knownHosts, state.Started)
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
	s, _, err := a.find(ctx, r.VM)
	if err != nil {
		return s, netip.Addr{}, err
	}
	n, address := reach.AddressOf(s)
	if !address.IsValid() {
		err = &noAddress{r.VM, n.Seen.Last().String(), s.State == control.Running && !reach.HasNetwork(s)}
	}
	return s, address, err
}

const (
	// bootLimit is how long a guest counts as booting, from the start of its VM: cloud-init
	// makes users and keys after port 22 is open, under TCG within some 30 s.
	bootLimit = 3 * time.Minute
	// loginPause is the time between two tries of a login that a booting guest refuses.
	loginPause = time.Second
)

// login runs ssh, and again while the guest boots and does not let the user in. Only the
// first try may ask the user for something. Where the server takes passwords, ssh may have
// asked for one, which was perhaps wrong: the user decides.
func (a *app) login(ctx context.Context, program string, s sshclient.Session, knownHosts string, started time.Time) error {
	deadline := time.Now().Add(s.Timeout)
	if end := started.Add(bootLimit); end.Before(deadline) {
		deadline = end
	}
	told := ""
	var first []string
	for {
		said := &sshclient.Errors{To: a.Stderr, Address: s.Address}
		cmd := sshclient.Command(program, a.user, a.user.Home(a.Getenv), s.Arguments(knownHosts, first...))
		err := a.runProgram(cmd, said)
		why := said.Refused()
		booting := !s.NoWait && time.Now().Before(deadline) && ctx.Err() == nil
		if why == "" || !booting || sshclient.Asks(why) && !s.Batch() && mayAsk(a.Getenv) {
			said.Flush()
			a.explainLogin(said, why, booting, s, knownHosts)
			return err
		}
		if why != told {
			a.talk("%s: waiting for the guest to let you in (%s); it booted %s ago, and ssh tries again for %s",
				s.VM, why, time.Since(started).Truncate(time.Second), time.Until(deadline).Truncate(time.Second))
		}
		told, first = why, []string{"-o", "BatchMode=yes"}
		select {
		case <-ctx.Done():
		case <-time.After(loginPause):
		}
	}
}

// mayAsk reports whether ssh can ask the user for a password.
func mayAsk(getenv func(string) string) bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return getenv("SSH_ASKPASS") != ""
	}
	tty.Close()
	return true
}

// explainLogin says what to do about a login that failed, where ssh does not.
func (a *app) explainLogin(said *sshclient.Errors, why string, booting bool, s sshclient.Session, knownHosts string) {
	switch {
	case said.ChangedKey():
		a.talk("hint: the disk of VM %q is the one that the known key was on. If you installed its guest anew, forget the key: rm %s", s.VM, sshclient.Quote([]string{knownHosts}))
	case why != "" && booting:
		a.talk("hint: the guest still boots, and may not have made its users yet: try again, or give ssh a key by -i")
	}
}

// exitStatus makes an exit code that of qnet: another program's, or one that a table
// explains.
type exitStatus struct{ code int }

// Error returns a text that is not printed: the user has seen the cause.
func (e *exitStatus) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// runProgram runs ssh on qnet's terminal. Its exit code becomes qnet's.
func (a *app) runProgram(cmd *exec.Cmd, errout *sshclient.Errors) error {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.Stdin, a.Stdout, errout
	cmd.WaitDelay = time.Second // a program in the background, such as ssh -f, may keep stderr
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return errors.Join(errSilent, &exitStatus{exit.ExitCode()})
	case errors.Is(err, exec.ErrWaitDelay):
		return nil
	}
	return err
}
