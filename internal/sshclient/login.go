package sshclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/legible"
)

const (
	// BootLimit is how long a guest counts as booting, from the start of its VM, or from the
	// time that its port opened if qnet had to wait for that: cloud-init makes users and keys
	// after port 22 is open, under TCG within some 30 s.
	BootLimit = 3 * time.Minute
	// openWait is longer than it takes to find an open port open.
	openWait = 2 * time.Second
	// connectTime is how many seconds the first try waits for a server that does not answer.
	connectTime = 10
	// loginPause is the time between two tries of a login that a booting guest refuses.
	loginPause = time.Second
)

// Booted returns from when on BootLimit counts, for a VM that started and a wait for its
// port that began then, and is over now.
func Booted(started, began time.Time) time.Time {
	if time.Since(began) > openWait {
		return time.Now()
	}
	return started
}

// Client runs ssh on the user's terminal.
type Client struct {
	Program        string       // path of ssh
	As             *asuser.User // nil is the caller
	Home           string       // of As
	Getenv         func(string) string
	Stdin          *os.File
	Stdout, Stderr io.Writer
	Talk           func(text string) // gets what the user should know
}

// Run logs in, or prints the command line for that. It returns an *exec.ExitError with the
// status of ssh.
func (c Client) Run(ctx context.Context, s Session) error {
	knownHosts, err := s.Prepare(c.As, c.Home)
	if err != nil {
		return err
	}
	remove, err := c.join(&s, knownHosts)
	if err != nil {
		return fmt.Errorf("join VMs %q and %q: %w", s.Copy.From.VM, s.VM, err)
	}
	defer remove()
	switch {
	case s.PrintOptions:
		_, err = fmt.Fprintln(c.Stdout, legible.Words(s.Options(knownHosts)))
		return err
	case s.Print:
		_, err = fmt.Fprintln(c.Stdout, legible.Words(append([]string{"ssh"}, s.Arguments(knownHosts)...)))
		return err
	}
	return c.login(ctx, s, knownHosts)
}

// keysOnly has ssh try its keys, for which it may ask a passphrase, and ask for no password.
var keysOnly = []string{"-o", "PasswordAuthentication=no", "-o", "KbdInteractiveAuthentication=no"}

// login runs ssh, and again while the guest boots and does not let the user in. It begins
// with keys alone, as a password that a booting guest asks for is one that it may not know
// yet. Where the server takes passwords and the user named no key, ssh may ask then.
func (c Client) login(ctx context.Context, s Session, knownHosts string) error {
	booting := func() bool { return !s.NoWait && time.Now().Before(s.deadline()) }
	var options []string
	if booting() {
		options = keysOnly
	}
	for told := ""; ; {
		said, err := c.try(ctx, &s, knownHosts, options)
		if said == nil {
			return err
		}
		why := said.Refused()
		switch s.next(why, Asks(why) && !s.Batch() && c.mayAsk(), options == nil, booting()) {
		case done:
			said.Flush()
			c.explain(said, why, booting(), s, knownHosts)
			return err
		case ask:
			options = nil
			if booting() {
				c.Talk(s.VM + ": the guest still boots, and does not take your keys, perhaps not yet")
			}
			continue
		case again:
			if why != told {
				c.Talk(fmt.Sprintf("%s: waiting for the guest to let you in (%s): it still boots, and ssh tries again for %s",
					s.VM, why, time.Until(s.deadline()).Truncate(time.Second)))
			}
			told, options = why, []string{"-o", "BatchMode=yes"}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(loginPause):
		}
	}
}

// try runs ssh. Where that finds no server, it waits for one, and runs ssh once more. It returns
// what ssh said, nil with an error that is not ssh's.
func (c Client) try(ctx context.Context, s *Session, knownHosts string, options []string) (*Errors, error) {
	said := &Errors{To: c.Stderr, Address: s.Address}
	err := c.once(s.Arguments(knownHosts, options...), said)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if s.Await == nil || !NoServer(said.Refused()) {
		return said, err
	}
	if *s, err = s.Await(ctx); err != nil {
		return nil, err
	}
	return c.try(ctx, s, knownHosts, options)
}

// deadline is until when a refused login is tried again.
func (s Session) deadline() time.Time {
	end := s.Found.Add(s.Timeout)
	if booted := s.Booted.Add(BootLimit); booted.Before(end) {
		return booted
	}
	return end
}

// step is what follows a try to log in.
type step int

const (
	done  step = iota
	ask        // another one, in which ssh may ask for a password
	again      // another one by keys, a little later
)

// next decides after a try that was refused for the reason why, "" for none. asks says that
// ssh could ask the user for a password, asked that it could in this try already.
func (s Session) next(why string, asks, asked, booting bool) step {
	switch {
	case why == "", asked, !asks && !booting:
		return done
	case asks && (!booting || !s.namesKey()):
		return ask
	}
	return again
}

// once runs ssh.
func (c Client) once(args []string, errout *Errors) error {
	cmd := Command(c.Program, c.As, c.Home, args)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, errout
	cmd.WaitDelay = time.Second // a program in the background, such as ssh -f, may keep stderr
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	return err
}

// mayAsk reports whether ssh can ask the user for a password.
func (c Client) mayAsk() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return c.Getenv("SSH_ASKPASS") != ""
	}
	return tty.Close() == nil
}

// explain says what to do about a login that failed, where ssh does not.
func (c Client) explain(said *Errors, why string, booting bool, s Session, knownHosts string) {
	switch {
	case said.ChangedKey() && len(s.Seeded.HostKeys) > 0:
		c.Talk("hint: qnet gave the guest other host keys at its first boot: either the guest took nothing (its image has no cloud-init; look with: qnet console " +
			s.VM + "), or another machine answers at its address")
	case said.ChangedKey():
		c.Talk(fmt.Sprintf("hint: the disk of VM %q is the one that the known key was on. If you installed its guest anew, copied another image over the disk or gave cloud-init another instance-id, forget the key: rm %s", s.VM, legible.Word(knownHosts)))
	case strings.HasPrefix(why, "Permission denied") && !booting && s.Seeded.Identity != "" && s.user() == s.Seeded.User:
		c.Talk("hint: the guest has no account " + s.Seeded.User + " that takes qnet's key: its first boot failed, or its image has no cloud-init; look with: qnet console " + s.VM)
	case why != "" && booting:
		c.Talk("hint: the guest still boots, and may not have made its users yet: try again, or give ssh a key by -i")
	}
}
