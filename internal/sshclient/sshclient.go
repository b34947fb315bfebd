// Package sshclient makes the command line of ssh(1) for a VM: as the user behind sudo,
// with a file of host keys of qnet's own for each VM, so that the user's known_hosts holds
// no VMs. It tells a login that a booting guest refuses from one that fails.
package sshclient

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/atomicfile"
	"github.com/qnet-vm/qnet/internal/perm"
	"github.com/qnet-vm/qnet/netsetup/dns"
)

// Session is what to log in to.
type Session struct {
	Request
	Address  netip.Addr
	Disk     string    // where the guest's host keys are, see control.State
	StateDir string    // keeps the host keys of a user without a home
	Booted   time.Time // from when on the guest counts as booting, see Booted
	Found    time.Time // when its address or its server was found, from when on Timeout counts

	// Await waits for the guest's SSH server, where ssh finds none, and returns the session with
	// its address. Nil leaves that to ssh.
	Await func(context.Context) (Session, error)

	Seeded Seeded // what qnet told the guest at its first boot
	Copy   *Copy  // what scp(1) copies; nil runs ssh
}

// Seeded is what qnet told a guest at its first boot: zero if it told it nothing.
type Seeded struct {
	User     string   // its account for logins
	Identity string   // path of qnet's own key, which the guest lets in
	HostKeys []string // public keys of the guest's SSH server, which no other machine has
}

// Prepare makes the directory of the host keys, and forgets the VM's if they were those
// of another disk. It returns the VM's file of them. as is nil for the caller.
func (s Session) Prepare(as *asuser.User, home string) (knownHosts string, err error) {
	dir := s.StateDir
	if as != nil && home != "" {
		dir = filepath.Join(home, ".local/state/qnet")
	}
	dir = filepath.Join(dir, "known_hosts.d")
	knownHosts = filepath.Join(dir, s.VM)
	err = as.Do(func() error {
		if err := perm.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if len(s.Seeded.HostKeys) > 0 {
			return know(knownHosts, s.alias(), s.Seeded.HostKeys)
		}
		return forget(knownHosts, s.Disk)
	})
	if err != nil {
		return "", fmt.Errorf("keep host keys: %w", err)
	}
	return knownHosts, nil
}

// forget begins the file of host keys anew unless its first line says that they are those
// of the disk. ssh takes the line for a comment (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).
func forget(path, disk string) error {
	first := "# host keys on disk " + disk + "\n"
	text, err := os.ReadFile(path)
	if err == nil && strings.HasPrefix(string(text), first) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Two `qnet ssh` of one run write the same.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm.Private)
	if err != nil {
		return err
	}
	if err = perm.Set(f, perm.Private); err == nil {
		_, err = f.WriteString(first)
	}
	return errors.Join(err, f.Close())
}

// know writes the host keys that qnet gave the guest.
func know(path, alias string, keys []string) error {
	text := "# host keys that qnet gave the guest\n"
	for _, k := range keys {
		text += alias + " " + k + "\n"
	}
	if b, err := os.ReadFile(path); err == nil && string(b) == text {
		return nil
	}
	return atomicfile.WritePrivate(path, []byte(text))
}

// alias is the name by which ssh knows the guest's host keys.
func (s Session) alias() string { return s.VM + "." + dns.Domain }

// Options returns the options of ssh(1), scp(1) and sftp(1) that lead to the VM, behind
// the user's own, which come first and so win. The name of the VM, not its address,
// identifies the host key: another VM may have the address later.
func (s Session) Options(knownHosts string) []string {
	checking := "accept-new"
	if len(s.Seeded.HostKeys) > 0 {
		checking = "yes"
	}
	options := append(append([]string{}, s.Request.Options...),
		"-o", "HostName="+s.Address.String(), "-o", "HostKeyAlias="+s.alias(),
		"-o", "UserKnownHostsFile="+escape(knownHosts), "-o", "StrictHostKeyChecking="+checking)
	if s.Await != nil {
		options = append(options, "-o", fmt.Sprintf("ConnectTimeout=%d", connectTime)) // the user's own stands before it
	}
	if s.Seeded.Identity == "" || s.user() != s.Seeded.User {
		return options
	}
	// qnet's key is enough. An agent with many others would use up the server's patience
	// (MaxAuthTries in sshd_config(5)).
	if !s.namesKey() {
		options = append(options, "-o", "IdentitiesOnly=yes")
	}
	return append(options, "-o", "IdentityFile="+escape(s.Seeded.Identity))
}

// user is the account to log in to, "" if that is left to ssh.
func (s Session) user() string {
	if s.Login == "" && !s.namesUser() {
		return s.Seeded.User
	}
	return s.Login
}

// escape writes a path as a value of ssh_config(5): in double quotes where it has a space,
// and without ssh's own expansions.
func escape(path string) string {
	path = strings.ReplaceAll(path, "%", "%%")
	if strings.ContainsAny(path, " \t'#") {
		return `"` + path + `"`
	}
	return path
}

// Arguments returns all arguments of ssh(1), or of scp(1) for a copy.
func (s Session) Arguments(knownHosts string, first ...string) []string {
	if s.Copy != nil && s.Copy.config != "" {
		return slices.Concat(first, []string{"-3", "-F", s.Copy.config}, s.Copy.arguments(s.alias()))
	}
	args := slices.Concat(first, s.Options(knownHosts))
	user := s.user()
	if s.Copy != nil {
		if user != "" {
			args = append(args, "-o", "User="+user)
		}
		return append(args, s.Copy.arguments(s.alias())...)
	}
	if user != "" {
		args = append(args, "-l", user)
	}
	return append(append(args, "--", s.Address.String()), s.Command...)
}

// Command returns the command that runs the ssh program with the arguments as the user, or
// as the caller for nil.
func Command(program string, as *asuser.User, home string, args []string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	if as != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: as.UID, Gid: as.GID, Groups: as.Groups}}
		if home != "" {
			cmd.Env = append(os.Environ(), "HOME="+home)
		}
	}
	return cmd
}
