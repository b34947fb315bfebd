package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/cli/displays"
	"github.com/qnet-vm/qnet/internal/signals"
	"github.com/qnet-vm/qnet/internal/supervisor"
	"github.com/qnet-vm/qnet/internal/warm"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
)

// farError is an error of the detached process, which made its message.
type farError struct{ message }

// Error returns the text.
func (e *farError) Error() string { return e.Text }

// word is what the detached process says over its pipe while the VM starts. The last
// one has Done or Err.
type word struct {
	Step     string       `json:"step,omitempty"` // that was done
	Note     *keeper.Note `json:"note,omitempty"`
	Progress *string      `json:"progress,omitempty"` // see supervisor.Options
	Done     bool         `json:"done,omitempty"`     // the VM runs
	Err      *farError    `json:"err,omitempty"`
}

// detach starts the VM in a session of its own and returns when it runs.
func (a *app) detach(c *cli.Context, p *profiles.Profile, path string, extra []string, booted *warm.State) error {
	openWindow, err := displays.Window(c.Context, &a.Call, p)
	if err != nil {
		return err
	}
	flags := []string{"--detached"}
	if booted != nil {
		flags = append(flags, "--warm")
	}
	if err := a.inSession(a.sessionArguments(c, p, path, extra, flags...), a.Progress(p.Name)); err != nil {
		return err
	}
	fmt.Fprintln(a.Stdout, p.Name)
	openWindow()
	return nil
}

// inSession runs another qnet in a session of its own, and hears it until it is done.
func (a *app) inSession(args []string, progress func(string)) error {
	ours, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ours.Close()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	defer signals.Forward(cmd.Process)()
	return a.hear(ours, progress)
}

// sessionArguments are those of another qnet that runs the profile as this one was asked to.
func (a *app) sessionArguments(c *cli.Context, p *profiles.Profile, path string, extra []string, flags ...string) []string {
	args := append(append(call.Again(c), "run", "--name", p.Name), flags...)
	for _, flag := range []string{"verbose", "assume-yes", "fresh"} {
		if c.Bool(flag) {
			args = append(args, "--"+flag)
		}
	}
	if mode := c.String("sandbox"); mode != "" {
		args = append(args, "--sandbox", mode)
	}
	for _, dir := range p.Allowed {
		args = append(args, "--allow-path", dir)
	}
	return append(append(args, path, "--"), extra...)
}

// hear prints what the detached process says until the VM runs.
func (a *app) hear(pipe io.Reader, progress func(string)) error {
	defer progress("")
	for words := json.NewDecoder(pipe); ; {
		var w word
		switch err := words.Decode(&w); {
		case err != nil:
			return fmt.Errorf("start supervisor: it ended without a word: %w", err)
		case w.Step != "":
			a.Talk("%s", w.Step)
		case w.Note != nil:
			a.Warn(*w.Note)
		case w.Progress != nil:
			progress(*w.Progress)
		case w.Err != nil:
			return w.Err
		case w.Done:
			return nil
		}
	}
}

// speech returns what writes to the process that this one was started by, see inSession.
func speech() (say func(word), end func()) {
	pipe := os.NewFile(3, "words")
	encoder := json.NewEncoder(pipe)
	var mu sync.Mutex // notes come at any time
	say = func(w word) {
		mu.Lock()
		defer mu.Unlock()
		encoder.Encode(w) //nolint:errcheck // a parent that is gone needs no word
	}
	return say, func() { pipe.Close() }
}

// runDetached is the process that detach starts. Once the VM runs, what it says goes to
// qnet.log only.
func (a *app) runDetached(ctx context.Context, p *profiles.Profile, o supervisor.Options) error {
	say, end := speech()
	o.Note = func(n keeper.Note) { say(word{Note: &n}) }
	if o.Verbose != nil {
		o.Verbose = func(step string) { say(word{Step: step}) }
	}
	o.Progress = func(what string) { say(word{Progress: &what}) }
	o.Stdout = io.Discard
	o.Started = func() {
		say(word{Done: true})
		end() // the supervisor tells later errors to `qnet stop` and qnet.log
	}
	err := supervisor.Run(ctx, p, o)
	if err != nil {
		say(word{Err: &farError{messageOf(err)}})
	}
	return err
}
