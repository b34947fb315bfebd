package filters

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// programDirs are where the iptables programs are looked for, never the PATH.
var programDirs = []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin", "/run/current-system/sw/bin"}

// findPrograms finds the programs for the iptables tables that are here.
func findPrograms(tables []Table) Programs {
	var found Programs
	for i := range tables {
		t := &tables[i]
		if !t.iptables() || found.path(t.Engine, t.Family) != "" {
			continue
		}
		path := findProgram(t.Engine, t.Family)
		if path == "" {
			continue
		}
		if found == nil {
			found = Programs{}
		}
		if found[t.Engine] == nil {
			found[t.Engine] = map[nft.Family]string{}
		}
		found[t.Engine][t.Family] = path
	}
	return found
}

// findProgram finds iptables-nft, or an iptables that is a link to the program of
// the engine (both are one, which goes by its name).
func findProgram(e Engine, f nft.Family) string {
	name := pick(f == nft.IP6, "ip6tables", "iptables")
	suffix := strings.TrimPrefix(string(e), "iptables-")
	for _, dir := range programDirs {
		path := filepath.Join(dir, name+"-"+suffix)
		if _, err := filepath.EvalSymlinks(path); err == nil {
			return path
		}
	}
	for _, dir := range programDirs {
		path := filepath.Join(dir, name)
		if target, err := filepath.EvalSymlinks(path); err == nil && strings.Contains(filepath.Base(target), "-"+suffix) {
			return path
		}
	}
	return ""
}

// Insert puts the rule at the head of its chain by the iptables program of its
// engine.
//
//	iptables-nft -w 10 -t filter -I FORWARD -i qn-dev ... -j ACCEPT
func (a AcceptRule) Insert() error { return a.run("-I") }

// Delete removes one copy of the rule.
//
//	iptables-nft -w 10 -t filter -D FORWARD -i qn-dev ... -j ACCEPT
func (a AcceptRule) Delete() error { return a.run("-D") }

func (a AcceptRule) args(verb string) []string {
	return append([]string{"-w", lockTime, "-t", a.Table, verb, a.Chain}, strings.Fields(strings.ReplaceAll(a.Spec, `"`, ""))...)
}

// ErrNoProgram is returned where there is no iptables program for the engine.
var ErrNoProgram = errors.New("there is no such program")

func (a AcceptRule) run(verb string) error {
	path := findProgram(a.Engine, a.Family)
	if path == "" {
		return fmt.Errorf("run %s: %w", a.programName(), ErrNoProgram)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, a.args(verb)...)
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	// It must not outlive us: what it then did, nobody would undo. The signal comes
	// with the end of the thread that started it, so that stays (prctl(2)).
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	if err != nil {
		says, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("run %s: %w: %s", a.Command(verb), err, says)
	}
	return nil
}
