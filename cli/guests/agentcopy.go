package guests

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/guestagent"
	"github.com/qnet-vm/qnet/internal/sshclient"
)

// scriptTime is what the agent has for each of the short scripts of a copy.
const scriptTime = 30 * time.Second

// remoteAgent is the agent of a VM that a supervisor has.
type remoteAgent struct{ runDir, vm string }

// Exec asks the supervisor as `qnet exec --agent` does.
func (r remoteAgent) Exec(ctx context.Context, words []string) (result guestagent.Result, err error) {
	op := control.Operation{Name: guestagent.Operation, Args: guestagent.Args{Words: words, Within: scriptTime}}
	return result, control.Do(ctx, r.runDir, r.vm, op, &result, control.DoOptions{})
}

// File asks the supervisor about a file of the guest.
func (r remoteAgent) File(ctx context.Context, a guestagent.FileArgs) (answer guestagent.FileAnswer, err error) {
	op := control.Operation{Name: guestagent.FileOperation, Args: a}
	return answer, control.Do(ctx, r.runDir, r.vm, op, &answer, control.DoOptions{})
}

// copyByAgent has QEMU's guest agent copy files, one after another, for no longer than within.
func (g guests) copyByAgent(ctx context.Context, runDir string, o sshclient.Operands, within time.Duration) error {
	if err := agentCan(o); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	agent := remoteAgent{runDir, o.VM}
	for _, source := range o.Sources {
		var err error
		if o.ToVM {
			err = g.send(ctx, agent, source, o.Target, len(o.Sources) > 1)
		} else {
			err = g.fetch(ctx, agent, source, o.Target, len(o.Sources) > 1)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("copy %q: not done within %s; --timeout gives it more time", source, within)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// agentCan refuses what only a copy by SSH does.
func agentCan(o sshclient.Operands) error {
	inGuest := o.Sources
	if o.ToVM {
		inGuest = []string{o.Target}
	}
	for _, p := range inGuest {
		if err := guestagent.CheckPath(p); err != nil {
			return &call.Usage{Text: "cp: " + err.Error()}
		}
	}
	switch {
	case o.FromVM != "":
		return &call.Usage{Text: "cp: the guest agent copies from or to this host; two copies, by way of a file here, lead from VM to VM"}
	case o.Recursive:
		return &call.Usage{Text: "cp: the guest agent copies files, no folders; pack one with tar"}
	case o.Times:
		return &call.Usage{Text: "cp: the guest agent keeps permissions, and no times: leave out --times"}
	case o.Login != "":
		return &call.Usage{Text: "cp: the guest agent is root: leave out " + o.Login + "@"}
	}
	return nil
}

// send copies a file of the user to the guest, into a folder if it is one of many.
func (g guests) send(ctx context.Context, agent guestagent.Guest, source, target string, many bool) error {
	var f *os.File
	err := g.User.Do(func() (err error) {
		if info, statErr := os.Stat(source); statErr == nil && !info.Mode().IsRegular() {
			return fmt.Errorf("copy %q: the guest agent copies files only, and that is none", source)
		}
		f, err = os.Open(source)
		return err
	})
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if many {
		target = path.Clean(target) + "/"
	}
	return guestagent.Send(ctx, agent, guestagent.File{Reader: f, Name: info.Name(), Mode: info.Mode()}, target)
}

// fetch copies a file of the guest to one of the user, which appears whole or not at all.
func (g guests) fetch(ctx context.Context, agent guestagent.Guest, source, target string, many bool) error {
	var f *os.File
	err := guestagent.Fetch(ctx, agent, source, func(mode fs.FileMode) (io.Writer, error) {
		err := g.User.Do(func() (err error) {
			if target, err = place(source, target, many); err == nil {
				f, err = os.CreateTemp(filepath.Dir(target), filepath.Base(target)+".qnet-*")
			}
			if err == nil {
				err = f.Chmod(mode)
			}
			return err
		})
		return f, err
	})
	if f == nil {
		return err
	}
	return g.User.Do(func() error {
		err := errors.Join(err, f.Close())
		if err == nil {
			err = os.Rename(f.Name(), target)
		}
		if err != nil {
			os.Remove(f.Name()) // the first error counts
		}
		return err
	})
}

// place returns the path of the host that a file of the guest is copied to.
func place(source, target string, many bool) (string, error) {
	info, err := os.Stat(target)
	if err == nil && info.IsDir() {
		target = filepath.Join(target, path.Base(path.Clean(source)))
	} else if many {
		return "", fmt.Errorf("%s is no folder, and there are several files for it", target)
	}
	if led, err := filepath.EvalSymlinks(target); err == nil {
		target = led // what a link leads to is replaced, not the link
	}
	if info, err := os.Stat(target); err == nil && !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is there, and is no file", target)
	}
	return target, nil
}
