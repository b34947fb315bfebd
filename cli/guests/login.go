package guests

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/firstboot"
	"github.com/qnet-vm/qnet/internal/pattern"
	"github.com/qnet-vm/qnet/internal/reach"
	"github.com/qnet-vm/qnet/internal/sshclient"
)

// loginPause is the time between two tries to log in.
const loginPause = time.Second

// Exit codes of bootScript besides 0: of cloud-init status(1), and degraded for both.
const (
	bootFailed   = 1
	bootDegraded = 2
)

// failedModule matches the names of modules in the errors that cloud-init lists, such as
// "('locale', ProcessExecutionError(...))".
var failedModule = pattern.Of(`\('([a-z_-]+)', `)

// bootScript waits in the guest until its first boot is done, and says how it ended. Without
// cloud-init, it waits for systemd.
const bootScript = `export LC_ALL=C
if command -v cloud-init >/dev/null 2>&1; then
	case $(cloud-init status 2>/dev/null) in
	*disabled* | *"not run"*) ;;
	*)
		# Before 23.4, it waits no longer once a module has failed.
		cloud-init status --wait >/dev/null 2>&1
		while [ -d /run/cloud-init ] && [ ! -e /run/cloud-init/result.json ]; do sleep 1; done
		cloud-init status >/dev/null 2>&1
		code=$?
		cloud-init status --long 2>/dev/null
		exit $code
		;;
	esac
fi
[ -d /run/systemd/system ] || exit 0
state=$(systemctl is-system-running --wait 2>/dev/null)
[ "$state" = running ] && exit 0
echo "systemd: $state"
systemctl list-units --failed --plain --no-legend 2>/dev/null
exit 2`

// waitForLogin is a wait for what a login shows, and the error if that takes too long.
type waitForLogin struct {
	vm      control.State
	address netip.Addr
	goal    reach.Goal
	within  time.Duration
	last    string // why the last login was refused, "" if it was not
}

// Error names what the guest said last.
func (w *waitForLogin) Error() string {
	stage, cause := "logged in", "cloud-init still works; look with: qnet exec "+w.vm.Name+" -- cloud-init status --long"
	if w.last != "" {
		stage = "port 22 answers; ssh: " + w.last
		cause = "the guest has no account that lets you in, perhaps not yet (--timeout); look with: qnet console " + w.vm.Name
	}
	return fmt.Sprintf("wait for %s of VM %q: not within %s; last stage: %s\nlikely: %s", w.goal, w.vm.Name, w.within, stage, cause)
}

// failedBoot says what cloud-init says of a first boot that failed.
type failedBoot struct{ vm, said string }

// Error has cloud-init's own lines.
func (f *failedBoot) Error() string {
	return fmt.Sprintf("the first boot of VM %q failed: %s", f.vm, f.said)
}

// Hint names the log.
func (f *failedBoot) Hint() string {
	return "qnet exec " + f.vm + " -- sudo cat /var/log/cloud-init-output.log shows what its commands said; it is done again when [guest] changes"
}

// awaitLogin asks the guest until it has got as far as the goal, or the context ends.
func (g guests) awaitLogin(ctx context.Context, w *waitForLogin) error {
	client, err := g.client("ssh")
	if err != nil {
		return err
	}
	script := bootScript
	if w.goal.Login == reach.CanLogIn {
		script = "true"
	}
	session := g.session(w.vm, w.address, sshclient.Request{VM: w.vm.Name, Command: []string{script}})
	defer g.Line.Set("")
	for told := "-"; ; {
		if w.last != told {
			g.showWait(w)
		}
		told = w.last
		answer, err := client.Ask(ctx, session)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return w
		case err != nil:
			return err
		case answer.Refused == "":
			return g.bootEnded(w, answer)
		}
		if sshclient.NoServer(answer.Refused) {
			if w.vm, w.address, err = g.Await(ctx, w.vm.Name, w.goal, w.within); err != nil {
				return err
			}
			session = g.session(w.vm, w.address, session.Request)
			continue
		}
		w.last = answer.Refused
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return w
			}
			return ctx.Err()
		case <-time.After(loginPause):
		}
		if w.vm, _, err = g.Places.Find(ctx, w.vm.Name); err != nil && ctx.Err() == nil {
			return err // it has ended
		}
	}
}

// showWait says what the guest's last answer was.
func (g guests) showWait(w *waitForLogin) {
	line := fmt.Sprintf("%s: waiting for %s", w.vm.Name, w.goal)
	if w.last != "" {
		line += "; " + w.last
	}
	g.Line.Set(line)
	if !g.Line.OnTerminal() {
		g.Talk("%s", line)
	}
}

// bootEnded judges how the first boot ended.
func (g guests) bootEnded(w *waitForLogin, a sshclient.Answer) error {
	said := strings.Join(strings.FieldsFunc(a.Text, func(r rune) bool { return r == '\n' }), "; ")
	switch {
	case w.goal.Login == reach.CanLogIn || a.Code == 0:
		return nil
	case a.Code == bootDegraded:
		g.Talk("warning: the first boot of VM %q is done, but not everything went well: %s", w.vm.Name, said)
		return nil
	case a.Code == bootFailed && onlyUnasked(said):
		g.Talk("warning: the first boot of VM %q is done, but the image's own settings did not all work: %s", w.vm.Name, said)
		return nil
	case a.Code == bootFailed:
		return &failedBoot{w.vm.Name, said}
	}
	return &failedBoot{w.vm.Name, fmt.Sprintf("exit code %d; %s", a.Code, said)}
}

// onlyUnasked reports whether cloud-init names modules that failed, and all are firstboot.Unasked ones.
// Before 23.4 its status is "error" for each of them.
func onlyUnasked(said string) bool {
	failed := failedModule().FindAllStringSubmatch(said, -1)
	return len(failed) > 0 && !slices.ContainsFunc(failed, func(m []string) bool {
		return !slices.Contains(firstboot.Unasked, strings.ReplaceAll(m[1], "_", "-"))
	})
}
