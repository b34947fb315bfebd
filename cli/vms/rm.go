package vms

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/disks"
	"github.com/qnet-vm/qnet/internal/legible"
	"github.com/qnet-vm/qnet/internal/vmdir"
	"github.com/qnet-vm/qnet/profiles"
)

func (v vms) rmCommand() *cli.Command {
	return &cli.Command{
		Name: "rm", Usage: "remove what VMs keep: disk, keys, firmware variables, logs", ArgsUsage: "NAME...",
		Description: "Profiles stay, and so do images, and disks that a profile names by file.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Usage: "stop a VM that runs, without asking its guest"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"},
		},
		Action: v.rm,
	}
}

func (v vms) rm(c *cli.Context) error {
	if !c.Args().Present() {
		return &call.Usage{Text: "rm needs a NAME; see qnet rm --help"}
	}
	var errs []error
	for _, name := range c.Args().Slice() {
		errs = append(errs, v.remove(c, name))
	}
	return errors.Join(errs...)
}

// remove removes one VM. A VM that keeps nothing has its logs removed.
func (v vms) remove(c *cli.Context, name string) error {
	if !profiles.ValidName(name) {
		return &call.Usage{Text: fmt.Sprintf("rm: got %.80q, allowed: names of VMs, which match %s", name, profiles.NamePattern)}
	}
	if err := v.ended(c, name); err != nil {
		return err
	}
	dir, err := vmdir.New(v.Places.VMs, name)
	if err != nil {
		return err
	}
	kept := v.User.Do(func() error { _, err := os.Lstat(dir.Path()); return err }) == nil
	record, _, err := v.Record(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		v.Talk("note: %v", err) // it is removed all the same
	}
	traces := v.traces(name)
	if !kept && len(traces) == 0 {
		return &unknownVM{name}
	}
	if !c.Bool("yes") && !v.confirmed(name, record, dir, kept) {
		return fmt.Errorf("remove VM %q: you did not say yes", name)
	}
	if kept {
		if err := v.destroy(dir); err != nil {
			return err
		}
	}
	return v.erase(traces)
}

// ended makes sure that the VM does not run.
func (v vms) ended(c *cli.Context, name string) error {
	_, _, err := v.Places.Find(c.Context, name)
	switch {
	case errors.Is(err, control.ErrNotRunning):
		return nil
	case err != nil:
		return err
	case !c.Bool("force"):
		return &stillRuns{name}
	}
	return v.does.Stop(c.Context, name, true)
}

func (v vms) destroy(dir vmdir.Dir) error {
	claim, err := dir.Hold(v.User)
	if errors.Is(err, vmdir.ErrInUse) {
		return err
	}
	if err != nil {
		// A record that is damaged keeps no one from removing it.
		return errors.Join(v.User.Do(dir.Remove))
	}
	return claim.Destroy()
}

// confirmed asks the user, if there is one to ask.
func (v vms) confirmed(name string, r vmdir.Record, dir vmdir.Dir, kept bool) bool {
	if v.Stdin == nil || !term.IsTerminal(int(v.Stdin.Fd())) {
		return true
	}
	what := "its logs"
	if kept {
		what = fmt.Sprintf("its disk and all that its guest has written (%s in %s)", disks.Size(usedBy(dir.Path())), dir.Path())
	}
	for _, b := range r.Bases {
		if strings.HasPrefix(b.Overlay, "/") {
			what += "; " + b.Overlay + " stays"
		}
	}
	fmt.Fprintf(v.Stderr, "remove VM %q: %s? [y/N] ", name, legible.Text(what))
	answer, err := bufio.NewReader(v.Stdin).ReadString('\n')
	return err == nil && strings.HasPrefix(strings.ToLower(strings.TrimSpace(answer)), "y")
}

// traces lists what else there is of a VM: its logs, and the host keys that ssh knows.
func (v vms) traces(name string) []string {
	var list []string
	for _, path := range v.Places.Traces(name) {
		if _, err := os.Lstat(path); err == nil {
			list = append(list, path)
		}
	}
	return list
}

// erase removes traces. What belongs to root is left to root.
func (v vms) erase(traces []string) error {
	var errs []error
	for _, path := range traces {
		err := os.RemoveAll(path)
		if errors.Is(err, fs.ErrPermission) {
			v.Talk("note: %s stays, it is root's: sudo qnet rm removes it", path)
			continue
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// stillRuns tells that a VM cannot be removed while it runs.
type stillRuns struct{ name string }

// Error names it.
func (e *stillRuns) Error() string { return fmt.Sprintf("remove VM %q: it runs", e.name) }

// Hint says how to end it.
func (e *stillRuns) Hint() string {
	return fmt.Sprintf("qnet stop %s ends it; --force does both", e.name)
}

// unknownVM tells that there is nothing of a VM.
type unknownVM struct{ name string }

// Error names it.
func (e *unknownVM) Error() string {
	return fmt.Sprintf("find VM %q: none of that name keeps anything", e.name)
}

// Hint says where the names are.
func (e *unknownVM) Hint() string { return `"qnet ls" lists VMs` }
