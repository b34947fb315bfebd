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

func (a *app) logsCommand() *cli.Command {
	return &cli.Command{
		Name: "logs", Usage: "show what a VM wrote to its console, also after its end", ArgsUsage: "NAME",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on while it runs"}},
		Action: a.logs,
	}
}

func (a *app) logs(c *cli.Context) error {
	args, err := operands(c, "NAME")
	if err != nil {
		return err
	}
	if !vmName.MatchString(args[0]) {
		return &usage{fmt.Sprintf("logs: got %.80q, allowed: %s", args[0], vmName)}
	}
	f, err := os.Open(supervisor.LogPath(a.stateDir, args[0]))
	if errors.Is(err, fs.ErrNotExist) && a.rootStateDir != "" {
		f, err = os.Open(supervisor.LogPath(a.rootStateDir, args[0])) // of a VM that the user started with sudo
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
		// A log that grows too long is renamed to .1: what this misses then is there.
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

// scroll removes from a log what clears the screen: firmware does so at each boot, and
// would hide what the guest wrote before.
type scroll struct {
	to   io.Writer
	held []byte // the begin of an escape sequence
}

// clears removes RIS, ED 2 and 3, and the end of line wrap (console_codes(4)).
var clears = strings.NewReplacer("\x1bc", "", "\x1b[2J", "", "\x1b[3J", "", "\x1b[?7l", "")

// longestClear is the length of the longest of these sequences, in bytes.
const longestClear = len("\x1b[?7l")

// Write holds back an escape sequence that may go on, until the next Write.
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
