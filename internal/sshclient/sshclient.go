// Package sshclient makes the command line of ssh(1) for a VM: as the user behind sudo,
// with a file of host keys of qnet's own, so that the user's known_hosts holds no VMs.
package sshclient

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/perm"
	"github.com/qnet-vm/qnet/netsetup/dns"
)

// Session is what to log in to.
type Session struct {
	VM      string
	Address netip.Addr
	Login   string   // "" leaves the name to ssh
	Command []string // nil starts a shell
}

// Command returns the command that runs the ssh program for the session, as the user, or
// as the caller for nil. It makes the directory of the host keys: the user's own, or
// without a home stateDir.
func Command(program string, as *asuser.User, stateDir string, s Session) (*exec.Cmd, error) {
	home := homeOf(as)
	dir := stateDir
	if home != "" {
		dir = filepath.Join(home, ".local/state/qnet")
	}
	if err := as.Do(func() error { return perm.MkdirAll(dir, 0o700) }); err != nil {
		return nil, fmt.Errorf("keep host keys: %w", err)
	}
	cmd := exec.Command(program, s.arguments(filepath.Join(dir, "known_hosts"))...)
	if as != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: as.UID, Gid: as.GID, Groups: as.Groups}}
	}
	if home != "" {
		cmd.Env = append(os.Environ(), "HOME="+home)
	}
	return cmd, nil
}

// arguments returns those of ssh(1). The name of the VM, not its address, identifies the
// host key: another VM may have the address later.
func (s Session) arguments(knownHosts string) []string {
	args := []string{
		"-o", "UserKnownHostsFile=" + knownHosts, "-o", "StrictHostKeyChecking=accept-new", "-o", "HostKeyAlias=" + s.VM + "." + dns.Domain,
	}
	if s.Login != "" {
		args = append(args, "-l", s.Login)
	}
	return append(append(args, "--", s.Address.String()), s.Command...)
}

// homeOf returns the home directory of the user behind sudo, "" without one.
func homeOf(as *asuser.User) string {
	if as == nil {
		return ""
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(as.UID), 10))
	if err != nil {
		return ""
	}
	return u.HomeDir
}
