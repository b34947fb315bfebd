package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/internal/supervisor"
	"github.com/qnet-vm/qnet/profiles"
)

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
