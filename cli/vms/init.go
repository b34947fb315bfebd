package vms

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/atomicfile"
	"github.com/qnet-vm/qnet/profiles"
)

// profileFile is the name of the file that init writes.
const profileFile = "vm.toml"

//go:embed vm.toml.txt
var template string

func (v vms) initCommand() *cli.Command {
	return &cli.Command{
		Name: "init", Usage: "write a commented profile, vm.toml, into this directory", ArgsUsage: "[IMAGE]",
		Description: "IMAGE is a name of the catalog, a file or a URL with its checksum; debian-12 if there is none.", Action: v.init,
	}
}

func (v vms) init(c *cli.Context) error {
	if c.NArg() > 1 {
		return &call.Usage{Text: fmt.Sprintf("init takes no argument %q; see qnet init --help", c.Args().Get(1))}
	}
	wd, err := os.Getwd()
	if err != nil {
		return err
	}
	image := c.Args().First()
	if image == "" {
		image = "debian-12"
	}
	if err := v.KnownImage(wd, image); err != nil {
		return err
	}
	text := newProfile(filepath.Base(wd), image)
	err = v.User.Do(func() error {
		return atomicfile.New(filepath.Join(wd, profileFile), 0o644, func(f *os.File) error {
			_, err := f.WriteString(text)
			return err
		})
	})
	if errors.Is(err, fs.ErrExist) {
		return &call.Usage{Text: "init: " + profileFile + " is here already; remove it, or run it with: qnet run " + profileFile}
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(v.Stdout, profileFile)
	v.Talk("run it with: sudo qnet run %s", profileFile)
	return nil
}

// newProfile returns the commented profile for a directory: its name is the VM's, if it can be.
func newProfile(dir, image string) string {
	name := strings.ToLower(dir)
	if !profiles.ValidName(name) || profiles.Reserved(name) != "" {
		name = "vm"
	}
	return strings.NewReplacer("@NAME@", name, "@IMAGE@", image, "@CPUS@", fmt.Sprint(min(2, runtime.NumCPU()))).Replace(template)
}
