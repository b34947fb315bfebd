package vms

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/atomicfile"
	"github.com/qnet-vm/qnet/internal/perm"
	"github.com/qnet-vm/qnet/internal/vmdir"
)

func (v vms) editCommand() *cli.Command {
	return &cli.Command{
		Name: "edit", Usage: "edit the profile of a VM, and check it", ArgsUsage: "NAME",
		Description: "With $VISUAL or $EDITOR. A VM that is run by its image's name gets a profile of its own.\nA VM that runs has the change at its next start.",
		Action:      v.edit,
	}
}

func (v vms) edit(c *cli.Context) error {
	args, err := call.Operands(c, "NAME")
	if err != nil {
		return err
	}
	source, err := v.Source(args[0], "")
	if err != nil {
		return err
	}
	editor, err := v.editor()
	if err != nil {
		return err
	}
	if source.Text != "" {
		if err := v.writeOwn(source); err != nil {
			return err
		}
	}
	if err := v.run(append(editor, source.Path)); err != nil {
		return fmt.Errorf("edit %s: %w", source.Path, err)
	}
	if _, err := v.Load(source.Path, ""); err != nil {
		return &badEdit{args[0], err}
	}
	v.Talk("%s is right", source.Path)
	return nil
}

// writeOwn writes the profile of a VM that is run by its image's name. One that never ran gets a
// record, by which qnet ls, start and rm know it.
func (v vms) writeOwn(s call.Source) error {
	dir, err := vmdir.New(v.Places.VMs, vmOf(s.Path))
	if err != nil {
		return err
	}
	claim, err := dir.Hold(v.User)
	if errors.Is(err, vmdir.ErrInUse) {
		return v.write(s) // it runs, and reads the file no more
	}
	if err != nil {
		return err
	}
	if err = v.write(s); err == nil && claim.First {
		err = claim.Update(func(r *vmdir.Record) { r.Image = s.Image })
	}
	return errors.Join(err, claim.Release())
}

// vmOf returns the VM in whose directory a profile is.
func vmOf(path string) string {
	parts := strings.Split(path, "/")
	return parts[max(len(parts)-2, 0)]
}

func (v vms) write(s call.Source) error {
	return v.User.Do(func() error {
		err := atomicfile.New(s.Path, perm.Private, func(f *os.File) error {
			_, err := f.WriteString(s.Text)
			return err
		})
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	})
}

// editor returns the command of the user's editor.
func (v vms) editor() ([]string, error) {
	for _, name := range []string{"VISUAL", "EDITOR"} {
		if words := strings.Fields(v.Getenv(name)); len(words) > 0 {
			return words, nil
		}
	}
	for _, name := range []string{"editor", "nano", "vi"} {
		if path, err := exec.LookPath(name); err == nil {
			return []string{path}, nil
		}
	}
	return nil, errors.New("find editor: there is no editor, nano or vi: set VISUAL or EDITOR")
}

// run runs a program on the terminal, with the rights of the user behind sudo.
func (v vms) run(args []string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = v.Stdin, v.Stdout, v.Stderr
	if v.User != nil {
		cmd.Env = append(os.Environ(), "HOME="+v.User.Home(v.Getenv))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: v.User.UID, Gid: v.User.GID, Groups: v.User.Groups}}
	}
	return cmd.Run()
}

// badEdit tells that a profile is wrong after it was edited.
type badEdit struct {
	name string
	err  error
}

// Error lists the mistakes.
func (e *badEdit) Error() string { return e.err.Error() }

// Unwrap returns them.
func (e *badEdit) Unwrap() error { return e.err }

// Hint says how to go on.
func (e *badEdit) Hint() string {
	return fmt.Sprintf("the file is saved as it is; qnet edit %s opens it again", e.name)
}
