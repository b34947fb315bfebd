package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/internal/supervisor"
)

func (a *app) logs(c *cli.Context) error {
	args, err := operands(c, "NAME")
	if err != nil {
		return err
	}
	if !vmName.MatchString(args[0]) {
		return &usage{fmt.Sprintf("logs: got %.80q, allowed: %s", args[0], vmName)}
	}
	f, err := os.Open(supervisor.LogPath(a.stateDir, args[0]))
	if errors.Is(err, fs.ErrNotExist) && a.rootsState != "" {
		f, err = os.Open(supervisor.LogPath(a.rootsState, args[0])) // of a VM that sudo started
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read log of VM %q: it never ran here", args[0])
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if terminal := supervisor.NewTerminal(nil, a.Stdout); terminal != nil {
		return showGuest(terminal, func() error { return a.copyLog(c, args[0], f, &scroll{to: terminal}) })
	}
	return a.copyLog(c, args[0], f, a.Stdout)
}

func (a *app) copyLog(c *cli.Context, name string, log io.Reader, to io.Writer) error {
	for {
		// The log may be put aside while it is followed; what is missed then is in the .1 file.
		if _, err := io.Copy(to, log); err != nil || !c.Bool("follow") {
			return err
		}
		if _, _, err := a.find(c.Context, name); err != nil {
			_, err = io.Copy(to, log)
			return err
		}
		select {
		case <-c.Done():
			return nil
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// scroll leaves out of a log what would clear the screen, as firmware does at each
// boot: what a guest wrote before would not be seen.
type scroll struct {
	to   io.Writer
	held []byte // an escape sequence that has not ended
}

// clears are RIS, ED 2 and 3 and the end of line wrap (console_codes(4)).
var clears = strings.NewReplacer("\x1bc", "", "\x1b[2J", "", "\x1b[3J", "", "\x1b[?7l", "")

// longestClear is the length of the longest of them, in bytes.
const longestClear = len("\x1b[?7l")

// Write writes all but an escape sequence that may go on, which comes with the rest.
func (s *scroll) Write(b []byte) (int, error) {
	all := slices.Concat(s.held, b)
	end := len(all)
	if i := bytes.LastIndexByte(all, '\x1b'); i >= 0 && len(all)-i < longestClear {
		end = i
	}
	s.held = bytes.Clone(all[end:])
	if _, err := io.WriteString(s.to, clears.Replace(string(all[:end]))); err != nil {
		return 0, err
	}
	return len(b), nil
}
