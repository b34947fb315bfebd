package cli

import (
	"fmt"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
)

func (a *app) versionCommand() *cli.Command {
	return &cli.Command{Name: "version", Usage: "print the version", Action: a.version}
}

func (a *app) version(c *cli.Context) error {
	if _, err := call.Operands(c); err != nil {
		return err
	}
	fmt.Fprintln(a.Stdout, "qnet", release())
	return nil
}

// release is the version: the one that the Makefile sets, or else the module's, by which "go
// install" got it.
func release() string {
	info, ok := debug.ReadBuildInfo()
	if version != "dev" || !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return version
	}
	return info.Main.Version
}
