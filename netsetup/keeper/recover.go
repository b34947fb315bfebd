package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/internal/lockfile"
	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/kernel"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// Collect undoes the networks whose keeper is dead and says what it removed.
// Networks of another living network namespace are left alone.
func Collect(_ context.Context, o Options) ([]string, error) { return collectAll(o, "") }

// collectAll is Collect for a VM that is leaving, and so no reason to leave its
// network alone.
func collectAll(o Options, leaving string) ([]string, error) {
	list, err := all(o.RunDir)
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	var removed []string
	var errs []error
	for _, p := range list {
		what, err := collect(p, leaving, false)
		errs = append(errs, err)
		if what != "" {
			removed = append(removed, what)
		}
	}
	return removed, errors.Join(append(errs, permission(lockfile.Sweep(filepath.Join(o.RunDir, "locks"))))...)
}

// collect undoes a network that nobody has: no keeper lives, and no VM has a tap of
// it open, whose supervisor is about to start a keeper; late, that one had its time.
func collect(p paths, leaving string, late bool) (string, error) {
	lock, err := lockfile.Try(p.keeperLock())
	if errors.Is(err, lockfile.ErrHeld) {
		return "", nil
	}
	if err != nil {
		return "", permission(err)
	}
	defer lock.Release()
	plan, err := lockfile.Wait(context.TODO(), p.planLock())
	if err != nil {
		return "", err
	}
	defer plan.Release()
	host, err := kernel.New()
	if err != nil {
		return "", err
	}
	defer host.Close()
	if j, err := journal.Read(p.journal()); err == nil && !late {
		if used, err := inUse(host.Kernel(), j, p.runDir, leaving); used || err != nil {
			return "", err
		}
	}
	what, err := recoverNetwork(host.Kernel(), p)
	if err != nil {
		return "", err
	}
	return what, p.remove()
}

// recoverNetwork undoes what the journal of a dead keeper tells. The caller
// holds the network's and the plan lock. It returns "" where there was nothing.
func recoverNetwork(k step.Kernel, p paths) (string, error) {
	j, err := journal.Read(p.journal())
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	var damaged *json.SyntaxError
	if errors.As(err, &damaged) {
		return recoverByMarks(k, p, err)
	}
	if err != nil {
		return "", err
	}
	here, err := lives(j)
	if err != nil || !here {
		return "network " + p.network + " (of another boot or namespace)", err
	}
	steps := journal.Own(j.Steps(), p.place())
	drift := apply.Drift(context.TODO(), k, steps)
	if err := errors.Join(apply.Undo(context.TODO(), k, steps), step.SweepAccepts(context.TODO(), k, p.network)); err != nil {
		return "", fmt.Errorf("undo network %q: %w", p.network, err)
	}
	what := "network " + p.network + " (bridge " + j.Plan.Bridge + ")"
	if j.Plan.Network.Macvtap {
		what = "network " + p.network + " (macvtap on " + j.Plan.Network.Uplink + ")"
	}
	return strings.Join(append([]string{what}, drift...), "; "), nil
}

// recoverByMarks undoes what can be known without the journal.
func recoverByMarks(k step.Kernel, p paths, damage error) (string, error) {
	facts, err := host.ObserveNetwork()
	if err != nil {
		return "", err
	}
	if facts.Firewalld, err = firewalld.Observe(context.TODO()); err != nil {
		return "", err
	}
	if err := journal.UndoByMarks(context.TODO(), k, facts, p.network); err != nil {
		return "", fmt.Errorf("undo network %q: %w", p.network, err)
	}
	return fmt.Sprintf("network %s by its marks, because its journal is damaged (%v); if it was a nat network, "+
		"look whether the forwarding of your uplinks is as it should be", p.network, damage), nil
}

// lives reports whether what the journal tells of can exist here. What a
// namespace holds is gone with it and with the boot; a living foreign one is an error.
func lives(j *journal.Journal) (bool, error) {
	boot, err := host.BootID()
	if err != nil || boot != j.BootID {
		return false, err
	}
	ns, err := host.NetNS()
	if err != nil || ns == j.NetNS {
		return err == nil, err
	}
	if namespaceLives(j.NetNS) {
		return false, fmt.Errorf("network %q was made in another network namespace (%s): use another --run-dir here: %w",
			j.Plan.Network.Name, j.NetNS, host.ErrRefused)
	}
	return false, nil
}

// namespaceLives reports whether a process or a name of ip-netns(8) holds the
// namespace.
func namespaceLives(ns string) bool {
	procs, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	for _, link := range procs {
		if got, err := os.Readlink(link); err == nil && got == ns {
			return true
		}
	}
	named, _ := filepath.Glob("/run/netns/*")
	return slices.ContainsFunc(named, func(path string) bool { return inodeName(path) == ns })
}

// Left lists the networks below a run directory whose keeper is dead: what
// Collect would undo.
func Left(runDir string) ([]string, error) {
	list, err := all(runDir)
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	var left []string
	for _, p := range list {
		c, err := dial(p)
		switch {
		case err == nil:
			c.Close()
		case noKeeper(err):
			left = append(left, "network "+p.network)
		default:
			return left, err
		}
	}
	return left, nil
}
