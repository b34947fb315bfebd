package sshclient

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/qnet-vm/qnet/internal/legible"
)

const (
	// maxAnswer bounds what a guest may answer, in bytes: it may send for ever.
	maxAnswer = 4 << 10
	// sshFailed is the exit code of ssh for its own failures (ssh(1), EXIT STATUS).
	sshFailed = 255
)

// Answer is what a command in the guest came to.
type Answer struct {
	Code    int    // exit code of the command
	Text    string // the begin of its output, without control characters
	Refused string // why ssh did not get in; then there is no code
}

// Ask runs a command in the guest that reads nothing, and never asks the user. An error is
// one of the host's.
func (c Client) Ask(ctx context.Context, s Session) (Answer, error) {
	knownHosts, err := s.Prepare(c.As, c.Home)
	if err != nil {
		return Answer{}, err
	}
	cmd := Command(c.Program, c.As, c.Home, s.Arguments(knownHosts, "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=15"))
	var out bounded
	said := &Errors{To: &bounded{}, Address: s.Address}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, said, time.Second
	if err := cmd.Start(); err != nil {
		return Answer{}, fmt.Errorf("run ssh: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() }) //nolint:errcheck // it may have ended
	err = cmd.Wait()
	if !stop() {
		return Answer{}, ctx.Err()
	}
	exit := (*exec.ExitError)(nil)
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == sshFailed:
		return Answer{Refused: said.why()}, nil
	case err != nil && exit == nil:
		return Answer{}, fmt.Errorf("run ssh: %w", err)
	}
	return Answer{Code: cmd.ProcessState.ExitCode(), Text: printable(string(out.kept))}, nil
}

// why returns in a line why ssh ended.
func (e *Errors) why() string {
	if e.ChangedKey() {
		return "it shows another host key than the one that is known"
	}
	if why := e.Refused(); why != "" {
		return why
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(e.all)), "\n")
	return printable(lines[len(lines)-1])
}

// bounded keeps the begin of what is written to it.
type bounded struct{ kept []byte }

// Write keeps what fits.
func (b *bounded) Write(p []byte) (int, error) {
	b.kept = append(b.kept, p[:min(len(p), maxAnswer-len(b.kept))]...)
	return len(p), nil
}

// printable escapes what a guest said, but for the ends of lines.
func printable(text string) string {
	return legible.Lines(strings.ReplaceAll(strings.TrimSpace(text), "\r\n", "\n"))
}
