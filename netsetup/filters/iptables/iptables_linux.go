// Package iptables finds and runs the iptables programs, which are the only way to
// change their tables without breaking them for their owners.
package iptables

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

	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/nft"
)

// programDirs are the directories that may hold the iptables programs. The PATH of the
// caller does not count.
var programDirs = dirs{"/usr/sbin", "/sbin", "/usr/bin", "/bin", "/run/current-system/sw/bin"}

type dirs []string

// Programs finds the programs that can change the iptables tables among these.
func Programs(tables []filters.Table) filters.Programs { return programDirs.programs(tables) }

func (list dirs) programs(tables []filters.Table) filters.Programs {
	var found filters.Programs
	for i := range tables {
		t := &tables[i]
		if !t.IPTables() || found[t.Engine][t.Family] != "" {
			continue
		}
		path := list.find(t.Engine, t.Family)
		if path == "" {
			continue
		}
		if found == nil {
			found = filters.Programs{}
		}
		if found[t.Engine] == nil {
			found[t.Engine] = map[nft.Family]string{}
		}
		found[t.Engine][t.Family] = path
	}
	return found
}

// find finds the program of an engine by its own name (iptables-nft), or an
// iptables that is a link to it. Both engines are one binary that goes by its name.
func (list dirs) find(e filters.Engine, f nft.Family) string {
	name := "iptables"
	if f == nft.IP6 {
		name = "ip6tables"
	}
	suffix := strings.TrimPrefix(string(e), "iptables-")
	for _, dir := range list {
		path := filepath.Join(dir, name+"-"+suffix)
		if _, err := filepath.EvalSymlinks(path); err == nil {
			return path
		}
	}
	for _, dir := range list {
		path := filepath.Join(dir, name)
		if target, err := filepath.EvalSymlinks(path); err == nil && strings.Contains(filepath.Base(target), "-"+suffix) {
			return path
		}
	}
	return ""
}

// Insert puts the rule at the head of its chain. It waits up to 15 s for iptables' lock
// (F09), or until ctx ends. It returns ErrNoProgram where the program of the rule's engine
// is not installed.
//
//	iptables-nft -w 10 -t filter -I FORWARD -i qn-dev ... -j ACCEPT
func Insert(ctx context.Context, a filters.AcceptRule) error { return programDirs.run(ctx, a, "-I") }

// Delete removes one copy of the rule. Errors are those of Insert.
//
//	iptables-nft -w 10 -t filter -D FORWARD -i qn-dev ... -j ACCEPT
func Delete(ctx context.Context, a filters.AcceptRule) error { return programDirs.run(ctx, a, "-D") }

// runTime bounds one run: the program itself waits 10 s for iptables' lock (F09).
const runTime = 15 * time.Second

// ErrNoProgram is wrapped where the engine's program is not installed.
var ErrNoProgram = errors.New("there is no such program")

func (list dirs) run(ctx context.Context, a filters.AcceptRule, verb string) error {
	path := list.find(a.Engine, a.Family)
	if path == "" {
		return fmt.Errorf("run %s: %w", a.ProgramName(), ErrNoProgram)
	}
	ctx, cancel := context.WithTimeout(ctx, runTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, a.Args(verb)...)
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	// The program must end with this process, because only this process undoes what it
	// does. The kernel sends the signal when the thread that started it ends (prctl(2)),
	// so the thread is kept.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	if err != nil {
		first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("run %s: %w: %s", a.Command(verb), err, first)
	}
	return nil
}
