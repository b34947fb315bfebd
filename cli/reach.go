package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/internal/supervisor"
	"github.com/qnet-vm/qnet/netsetup/dns"
)

func (a *app) ipCommand() *cli.Command {
	return &cli.Command{
		Name: "ip", Usage: "print the address a VM uses", ArgsUsage: "NAME",
		Description: "In every mode, from what the guest showed on its NIC: its lease, or its ARP and ND frames.",
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print JSON: all addresses of all NICs"}},
		Action:      a.ip,
	}
}

// nicAddresses is one NIC's part of `qnet ip --json`.
type nicAddresses struct {
	NIC       int          `json:"nic"`
	Mode      string       `json:"mode"`
	Network   string       `json:"network,omitempty"`
	MAC       string       `json:"mac"`
	Reserved  string       `json:"reserved,omitempty"`
	Addresses []netip.Addr `json:"addresses"`
	Stage     string       `json:"stage"`
}

// unseen is why a VM's address will never be known.
const unseen = "it has no NIC on one of qnet's networks, so qnet sees no address of it"

// noAddress tells that a VM shows no address: not yet, or never.
type noAddress struct {
	name, stage string
	never       bool
}

// Error tells how far the guest has got.
func (e *noAddress) Error() string {
	if e.never {
		return fmt.Sprintf("find address of VM %q: %s", e.name, unseen)
	}
	return fmt.Sprintf("find address of VM %q: it has none yet; its guest's last sign: %s", e.name, e.stage)
}

func (a *app) ip(c *cli.Context) error {
	args, err := operands(c, "NAME")
	if err != nil {
		return err
	}
	s, _, err := a.find(args[0])
	if err != nil {
		return err
	}
	if c.Bool("json") {
		list := []nicAddresses{}
		for _, n := range s.NICs {
			addresses := n.Addresses()
			if addresses == nil {
				addresses = []netip.Addr{}
			}
			list = append(list, nicAddresses{n.Index, n.Mode, n.Network, n.MAC, n.Address, addresses, n.Seen.Last().String()})
		}
		return a.json(list)
	}
	n, address := firstAddress(s)
	if !address.IsValid() {
		return &noAddress{args[0], n.Seen.Last().String(), s.State == "running" && !hasNetwork(s)}
	}
	fmt.Fprintln(a.Stdout, address)
	return nil
}

// firstAddress is the address of the first NIC that has one that others can
// use; without any, the NIC that got furthest.
func firstAddress(s supervisor.State) (supervisor.NIC, netip.Addr) {
	var furthest supervisor.NIC
	for _, n := range s.NICs {
		if list := n.Addresses(); len(list) > 0 && !list[0].IsLinkLocalUnicast() {
			return n, list[0]
		}
		if n.Seen.Last() > furthest.Seen.Last() || furthest.Mode == "" {
			furthest = n
		}
	}
	return furthest, netip.Addr{}
}

func (a *app) hosts(c *cli.Context) error {
	if _, err := operands(c); err != nil {
		return err
	}
	states, err := a.list()
	if err != nil {
		return err
	}
	for _, s := range states {
		for _, n := range s.NICs {
			address := n.Address
			if list := n.Addresses(); address == "" && len(list) > 0 && !list[0].IsLinkLocalUnicast() {
				address = list[0].String()
			}
			if address != "" {
				fmt.Fprintf(a.Stdout, "%s\t%s.%s %s\n", address, s.Name, dns.Domain, s.Name)
				break
			}
		}
	}
	return nil
}

func (a *app) sshCommand() *cli.Command {
	return &cli.Command{
		Name: "ssh", Usage: "wait for a VM's SSH port and run ssh", ArgsUsage: "NAME [-- COMMAND]",
		Description: "Host keys are kept in a file of qnet's, and accepted the first time a VM of the name is met.",
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
	address, err := a.await(c.Context, args[0], goal{port: 22}, c.Duration("timeout"))
	if err != nil {
		return err
	}
	known, err := a.knownHosts()
	if err != nil {
		return err
	}
	argv := []string{
		"-o", "UserKnownHostsFile=" + known, "-o", "StrictHostKeyChecking=accept-new", "-o", "HostKeyAlias=" + args[0] + "." + dns.Domain,
	}
	if login := c.String("login"); login != "" {
		argv = append(argv, "-l", login)
	}
	argv = append(append(argv, "--", address.String()), command...)
	return a.runAsUser(exec.Command(program, argv...))
}

// knownHosts is the user's own file, also under sudo.
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

// home is the home of the user behind sudo, "" where there is none.
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

// exitStatus carries another program's exit code out.
type exitStatus struct{ code int }

// Error is for completeness: the program said itself what it had to say.
func (e *exitStatus) Error() string { return fmt.Sprintf("exit status %d", e.code) }

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

// dials reports whether something listens on the port.
func dials(ctx context.Context, address netip.Addr, port int) bool {
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(address.String(), strconv.Itoa(port)))
	if err != nil {
		return false
	}
	if port == 22 {
		// QEMU's user network and some balancers accept before anyone listens:
		// SSH speaks first (RFC 4253, section 4.2).
		c.SetReadDeadline(time.Now().Add(time.Second)) //nolint:errcheck // the read fails then
		b := make([]byte, 4)
		_, err = io.ReadFull(c, b)
		if err == nil && !strings.HasPrefix(string(b), "SSH-") {
			err = errors.New("not SSH")
		}
	}
	return errors.Join(err, c.Close()) == nil
}
