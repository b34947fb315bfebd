package services

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/atomicfile"
	"github.com/qnet-vm/qnet/internal/service"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/profiles"
)

// install refuses a profile that qnet run would refuse for what is in it.
func (s services) install(c *cli.Context, operand string) error {
	p, err := s.Load(operand, c.String("name"))
	if err == nil {
		err = s.Allow(c, p)
	}
	if err == nil {
		err = s.MayReach(c, p)
	}
	if err != nil {
		return err
	}
	unit, err := s.unit(c, p, operand)
	if err != nil {
		return err
	}
	if c.Bool("print") {
		fmt.Fprint(s.Stdout, unit.Text())
		return nil
	}
	if err := s.put(c, unit); err != nil {
		return fmt.Errorf("install the service of VM %q: %w", p.Name, err)
	}
	return nil
}

// unit makes the unit of the profile that the operand means. A user's manager has no rights, so it
// makes no networks.
func (s services) unit(c *cli.Context, p *profiles.Profile, operand string) (service.Unit, error) {
	for i, n := range p.NICs {
		if c.Bool("user") && n.Mode.NeedsNetwork() {
			return service.Unit{}, host.Refuse("NIC %d of VM %q has mode %s, whose network is root's to make: run sudo qnet service install without --user, or use mode = \"user\"", i, p.Name, n.Mode)
		}
	}
	exe, err := os.Executable()
	if err != nil {
		return service.Unit{}, fmt.Errorf("find qnet's own file: %w", err)
	}
	operand, err = anywhere(p.Path, operand)
	if err != nil {
		return service.Unit{}, err
	}
	args := append(call.Again(c), "run", "--service", "--name", p.Name)
	if c.Bool("assume-yes") {
		args = append(args, "--assume-yes")
	}
	if c.IsSet("sandbox") {
		args = append(args, "--sandbox", c.String("sandbox"))
	}
	for _, dir := range c.StringSlice("allow-path") {
		path, err := filepath.Abs(dir)
		if err != nil {
			return service.Unit{}, fmt.Errorf("find %s: %w", dir, err)
		}
		args = append(args, "--allow-path", path)
	}
	return service.Unit{VM: p.Name, Exe: exe, Args: append(args, operand), User: c.Bool("user"), Behind: s.User}, nil
}

// anywhere returns an operand that means the same in any directory: the profile's path, or an
// image's, where a VM is run without a profile; the name or URL of an image as it is.
func anywhere(profile, operand string) (string, error) {
	for _, file := range []string{profile, operand} {
		if _, err := os.Stat(file); err != nil {
			continue
		}
		path, err := filepath.Abs(file)
		if err != nil {
			return "", fmt.Errorf("find %s: %w", file, err)
		}
		return path, nil
	}
	return operand, nil
}

// put gives the unit to the manager.
func (s services) put(c *cli.Context, unit service.Unit) error {
	m, err := s.manager(c, true)
	if err == nil {
		err = m.Running()
	}
	if err == nil {
		err = write(m, unit)
	}
	if err == nil {
		err = m.Reload(c.Context)
	}
	if err == nil {
		err = m.Enable(c.Context, unit.VM)
	}
	if err != nil {
		return err
	}
	s.Talk("%s starts VM %s when %s", m.File(unit.VM), unit.VM, occasion(unit))
	if c.Bool("now") {
		return m.Start(c.Context, unit.VM)
	}
	return nil
}

// occasion is when the service starts.
func occasion(u service.Unit) string {
	if u.User {
		return "you log in; with loginctl enable-linger, when the host boots, and it runs on when you log out"
	}
	return "the host boots"
}

// write writes the unit file, over no other than one that this command made.
func write(m service.Manager, u service.Unit) error {
	file := m.File(u.VM)
	text, err := os.ReadFile(file)
	switch {
	case err == nil && !service.Made(string(text)):
		return host.Refuse("%s is there already, and not made by qnet service install: remove it, or give the VM another name with --name", file)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("read unit file: %w", err)
	}
	if err := os.MkdirAll(m.Dir, 0o755); err != nil {
		return fmt.Errorf("make the directory of unit files: %w", err)
	}
	if err := atomicfile.Write(file, []byte(u.Text())); err != nil {
		return fmt.Errorf("write unit file: %w", err)
	}
	return nil
}
