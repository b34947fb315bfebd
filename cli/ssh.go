package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/internal/reach"
	"github.com/qnet-vm/qnet/netsetup/dns"
)

func (a *app) sshCommand() *cli.Command {
	return &cli.Command{
		Name: "ssh", Usage: "wait for a VM's SSH port and run ssh", ArgsUsage: "NAME [-- COMMAND]",
		Description: "qnet keeps host keys in a file of its own. It accepts the key of a VM the first time that it sees the name.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "login", Aliases: []string{"l"}, Usage: "log in as `USER`"},
			&cli.DurationFlag{Name: "timeout", Value: 2 * time.Minute, Usage: "wait for the port for `TIME`, such as 30s or 2m"},
		},
		Action: a.ssh,
	}
}

func (a *app) ssh(c *cli.Context) error {
	args := c.Args().Slice()
	if len(args) == 0 {
		return &usage{"ssh needs NAME; see qnet ssh --help"}
	}
	command := args[1:]
	if len(command) > 0 && command[0] != "--" {
		return &usage{fmt.Sprintf("ssh takes one NAME; a command such as %q goes behind --", command[0])}
	} else if len(command) > 0 {
		command = command[1:]
	}
	program, err := exec.LookPath("ssh")
	if err != nil {
		return fmt.Errorf("run ssh: %w", err)
	}
	address, err := a.await(c.Context, args[0], reach.Goal{Port: 22}, c.Duration("timeout"))
	if err != nil {
		return err
	}
	known, err := a.knownHosts()
	if err != nil {
		return err
	}
	return a.runAsUser(exec.Command(program, sshArguments(args[0], address, c.String("login"), known, command)...))
}

// sshArguments returns the arguments of ssh(1). The name of the VM, not its address,
// identifies the host key: another VM may have the address later.
func sshArguments(vm string, address netip.Addr, login, knownHosts string, command []string) []string {
	args := []string{
		"-o", "UserKnownHostsFile=" + knownHosts, "-o", "StrictHostKeyChecking=accept-new", "-o", "HostKeyAlias=" + vm + "." + dns.Domain,
	}
	if login != "" {
		args = append(args, "-l", login)
	}
	return append(append(args, "--", address.String()), command...)
}

// knownHosts returns the file of host keys: the user's own, also under sudo.
func (a *app) knownHosts() (string, error) {
	dir := a.stateDir
	if home := a.home(); home != "" {
		dir = filepath.Join(home, ".local/state/qnet")
	}
	err := a.user.Do(func() error { return os.MkdirAll(dir, 0o700) })
	if err != nil {
		return "", fmt.Errorf("keep host keys: %w", err)
	}
	return filepath.Join(dir, "known_hosts"), nil
}

// home returns the home directory of the user behind sudo, "" without one.
func (a *app) home() string {
	if a.user == nil {
		return ""
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(a.user.UID), 10))
	if err != nil {
		return ""
	}
	return u.HomeDir
}

// exitStatus makes an exit code that of qnet: another program's, or one that a table
// explains.
type exitStatus struct{ code int }

// Error returns a text that is not printed: the user has seen the cause.
func (e *exitStatus) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// runAsUser runs a program on qnet's terminal, as the user behind sudo.
func (a *app) runAsUser(cmd *exec.Cmd) error {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.Stdin, a.Stdout, a.Stderr
	if a.user != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: a.user.UID, Gid: a.user.GID, Groups: a.user.Groups}}
		if home := a.home(); home != "" {
			cmd.Env = append(os.Environ(), "HOME="+home)
		}
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return errors.Join(errSilent, &exitStatus{exit.ExitCode()})
	}
	return err
}
