package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/internal/supervisor"
	"github.com/qnet-vm/qnet/profiles"
)

func (a *app) runCommand() *cli.Command {
	return &cli.Command{
		Name: "run", Usage: "run a VM", ArgsUsage: "PROFILE [-- QEMU ARGUMENTS]",
		Description: "The guest's serial console is this terminal; Ctrl-] q shuts the VM down, and again climbs to the\nnext, rougher way. Without a terminal the console is copied to stdout.\n\nExample: sudo qnet run vm.toml",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "return when the VM runs, and leave it running"},
			&cli.StringFlag{Name: "name", Usage: "call the VM `NAME`, not as its profile does"},
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "show each change to the host as it is done"},
			&cli.BoolFlag{Name: "assume-yes", Usage: "move the host to a bridge though no gateway answers, or your session comes in by the NIC"},
			&cli.BoolFlag{Name: "detached", Hidden: true},
		},
		Action: a.run,
	}
}

var vmName = regexp.MustCompile("^[a-z][a-z0-9-]{0,30}$")

// load reads a profile as the user behind sudo, and names the VM.
func (a *app) load(path, name string) (*profiles.Profile, error) {
	if name != "" && !vmName.MatchString(name) {
		return nil, &usage{fmt.Sprintf("--name: got %.80q, allowed: %s", name, vmName)}
	}
	var p *profiles.Profile
	err := a.user.Do(func() (err error) {
		p, err = profiles.Load(path)
		return err
	})
	if bad := (profiles.Errors{}); errors.As(err, &bad) {
		return nil, err
	}
	if a.user != nil && errors.Is(err, os.ErrPermission) {
		return nil, &usage{err.Error() + "; it is read with your own rights, also under sudo"}
	}
	if err != nil {
		return nil, &usage{err.Error()} // it is not there, may not be read, is a directory
	}
	if name != "" {
		p.Name = name
	}
	return p, nil
}

// profile loads that of a command whose one operand it is.
func (a *app) profile(c *cli.Context) (*profiles.Profile, error) {
	args, err := operands(c, "PROFILE")
	if err != nil {
		return nil, err
	}
	return a.load(args[0], "")
}

func (a *app) run(c *cli.Context) error {
	args := c.Args().Slice()
	if len(args) == 0 {
		return &usage{"run needs a PROFILE; see qnet run --help"}
	}
	extra := args[1:]
	if len(extra) > 0 && extra[0] == "--" {
		extra = extra[1:]
	} else if len(extra) > 0 {
		return &usage{fmt.Sprintf("run takes one profile; QEMU arguments such as %q go behind --", extra[0])}
	}
	p, err := a.load(args[0], c.String("name"))
	if err != nil {
		return err
	}
	if c.Bool("detach") {
		return a.detach(c, p, args[0], extra)
	}
	o, done := a.options(c, extra)
	defer done()
	if c.Bool("detached") {
		return a.runDetached(c.Context, p, o)
	}
	a.terminal = supervisor.NewTerminal(a.Stdin, a.Stdout)
	o.Terminal, o.Waits, o.Rung = a.terminal, a.waits(p.Name), a.rungs(p.Name)
	return supervisor.Run(c.Context, p, o)
}

func (a *app) options(c *cli.Context, extra []string) (supervisor.Options, func()) {
	signals := endings()
	o := supervisor.Options{
		RunDir: a.runDir, StateDir: a.stateDir, Exe: []string{"/proc/self/exe", "keeper"},
		QEMU: a.Getenv("QNET_QEMU"), Path: a.Getenv("PATH"), Extra: extra, User: a.user, AssumeYes: c.Bool("assume-yes"),
		Stdout: a.Stdout, Signals: signals,
		Warn: func(text string) { a.talk("warning: %s", text) },
	}
	if c.Bool("verbose") {
		o.Verbose = func(step string) { a.talk("%s", step) }
	}
	return o, func() { ignore(signals) }
}

// farError is an error of the detached process, worded and coded there.
type farError struct {
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"`
	Code int    `json:"code"`
}

// Error is the text.
func (e *farError) Error() string { return e.Text }

// word is what the detached process says over its pipe: a warning or step while
// it starts, then the end of the start.
type word struct {
	Talk string    `json:"talk,omitempty"`
	Wait string    `json:"wait,omitempty"` // what it waits for
	Done bool      `json:"done,omitempty"`
	Err  *farError `json:"err,omitempty"`
}

// detach starts the VM in a session of its own and returns when it runs.
func (a *app) detach(c *cli.Context, p *profiles.Profile, path string, extra []string) error {
	ours, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ours.Close()
	args := []string{"--run-dir", a.runDir, "--state-dir", a.stateDir, "run", "--detached", "--name", p.Name}
	for _, flag := range []string{"verbose", "assume-yes"} {
		if c.Bool(flag) {
			args = append(args, "--"+flag)
		}
	}
	args = append(append(args, path, "--"), extra...)
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	defer forward(cmd.Process)()
	waits := a.waits(p.Name)
	defer waits("")
	for words := json.NewDecoder(ours); ; {
		var w word
		switch err := words.Decode(&w); {
		case err != nil:
			return fmt.Errorf("start supervisor: it ended without a word: %w", err)
		case w.Talk != "":
			a.talk("%s", w.Talk)
		case w.Wait != "":
			waits(w.Wait)
		case w.Err != nil:
			a.talk("qnet: %s", w.Err.Text)
			if w.Err.Hint != "" {
				a.talk("hint: %s", w.Err.Hint)
			}
			return errors.Join(errSilent, w.Err)
		case w.Done:
			waits("")
			fmt.Fprintln(a.Stdout, p.Name)
			return nil
		}
	}
}

// runDetached is the other end of detach.
func (a *app) runDetached(ctx context.Context, p *profiles.Profile, o supervisor.Options) error {
	pipe := os.NewFile(3, "ready")
	words := json.NewEncoder(pipe)
	say := func(text string) { words.Encode(word{Talk: text}) } //nolint:errcheck // a parent that is gone needs no word
	o.Warn = func(text string) { say("warning: " + text) }
	if o.Verbose != nil {
		o.Verbose = say
	}
	o.Waits = func(what string) { words.Encode(word{Wait: what}) } //nolint:errcheck // as above
	o.Stdout = io.Discard
	o.Started = func() {
		words.Encode(word{Done: true}) //nolint:errcheck // as above
		pipe.Close()
	}
	err := supervisor.Run(ctx, p, o)
	if err != nil {
		words.Encode(word{Err: &farError{err.Error(), hintFor(err), exitCode(err)}}) //nolint:errcheck // as above
	}
	return err
}
