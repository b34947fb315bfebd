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
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/kernel"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// Collect undoes the networks whose keeper is dead and says what it removed. It
// leaves networks of another living network namespace alone.
func Collect(ctx context.Context, o Options) ([]string, error) { return collectAll(ctx, o, "") }

// collectAll is Collect for a VM that is leaving: that VM's ports do not count as in
// use.
func collectAll(ctx context.Context, o Options, leaving string) ([]string, error) {
	list, err := rundir.Networks(o.RunDir)
	if err != nil {
		return nil, err
	}
	var removed []string
	var errs []error
	for _, n := range list {
		what, err := CollectNetwork(ctx, n, leaving, false)
		errs = append(errs, err)
		if what != "" {
			removed = append(removed, what)
		}
	}
	return removed, errors.Join(append(errs, Permission(lockfile.Sweep(filepath.Join(o.RunDir, "locks"))))...)
}

// CollectNetwork undoes an abandoned network: its keeper is dead and no VM, but the
// one that is leaving, holds one of its taps open. If late is set, open taps no
// longer count: their supervisors have had time to start a new keeper. It returns
// what it removed, "" for nothing. The error wraps host.ErrLeft if something
// could not be undone; the journal stays then.
func CollectNetwork(ctx context.Context, n rundir.Network, leaving string, late bool) (string, error) {
	lock, err := lockfile.Try(n.KeeperLock())
	if errors.Is(err, lockfile.ErrHeld) {
		return "", nil
	}
	if err != nil {
		return "", Permission(err)
	}
	defer lock.Release()
	plan, err := lockfile.Wait(ctx, n.PlanLock())
	if err != nil {
		return "", err
	}
	defer plan.Release()
	h, err := kernel.New()
	if err != nil {
		return "", err
	}
	defer h.Close()
	if j, err := journal.Read(n.Journal()); err == nil && !late {
		if used, err := InUse(ctx, h.Kernel(), j, n.RunDir, leaving); used || err != nil {
			return "", err
		}
	}
	what, err := Recover(ctx, h.Kernel(), n)
	if err != nil {
		return "", err
	}
	return what, n.Remove()
}

// InUse reports whether a VM, other than the one that is leaving, still has a tap of a
// dead keeper's network open: its supervisor is about to start the next keeper.
func InUse(ctx context.Context, k step.Kernel, j *journal.Journal, runDir, leaving string) (bool, error) {
	if here, err := lives(j); !here || err != nil {
		return false, nil //nolint:nilerr // Recover words it
	}
	if _, err := j.FollowLinks(ctx, k); err != nil {
		return false, err
	}
	if stands, err := journal.Stands(ctx, k, j.Plan); !stands || err != nil {
		return false, err
	}
	for vm, steps := range j.Ports {
		for _, s := range steps {
			open, err := PortOpen(ctx, k, s, rundir.VM{RunDir: runDir, Name: vm}, vm == leaving)
			if open || err != nil {
				return open, err
			}
		}
	}
	return false, nil
}

// PortOpen reports whether a process has the link open that the step made for the
// VM. Where the kernel does not tell that, as of a macvtap link, the lock of the VM's
// supervisor does, unless the VM is leaving.
func PortOpen(ctx context.Context, k step.Kernel, s step.Step, vm rundir.VM, leaving bool) (bool, error) {
	port, ok := s.(step.PortMaker)
	if !ok {
		return false, nil
	}
	open, told, err := port.Open(ctx, k)
	if !open || told || err != nil {
		return open, err
	}
	if leaving {
		return false, nil
	}
	return vm.Lives()
}

// Recover undoes what the journal of a dead keeper lists. The caller holds the
// network's keeper lock and the plan lock. It returns what it undid, "" for nothing.
func Recover(ctx context.Context, k step.Kernel, n rundir.Network) (string, error) {
	j, err := journal.Read(n.Journal())
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	var damaged *json.SyntaxError
	if errors.As(err, &damaged) {
		return recoverByMarks(ctx, k, n, err)
	}
	if err != nil {
		return "", err
	}
	here, err := lives(j)
	if err != nil || !here {
		return "network " + n.Name + " (of another boot or namespace)", err
	}
	drift, err := Undo(ctx, k, j, n)
	if err != nil {
		return "", fmt.Errorf("undo network %q: %w", n.Name, err)
	}
	what := "network " + n.Name + " (bridge " + j.Plan.Bridge + ")"
	if j.Plan.Network.Macvtap {
		what = "network " + n.Name + " (macvtap on " + j.Plan.Network.Uplink + ")"
	}
	return strings.Join(append([]string{what}, drift...), "; "), nil
}

// Undo takes back what the journal lists, and returns what was no longer as qnet had
// left it, in words for the user. The caller holds the plan lock. The error wraps
// host.ErrLeft.
func Undo(ctx context.Context, k step.Kernel, j *journal.Journal, n rundir.Network) (drift []string, err error) {
	_, followErr := j.FollowLinks(ctx, k) // else the old names stand
	_, namesErr := journal.RestoreNames(ctx, k, n.Name)
	steps := journal.WithoutShared(j.Steps(), n)
	drift = apply.Drift(ctx, k, steps)
	err = errors.Join(followErr, namesErr, apply.Undo(ctx, k, steps), step.SweepAccepts(ctx, k, n.Name))
	if err != nil {
		err = fmt.Errorf("%w: %w", host.ErrLeft, err)
	}
	return drift, err
}

// recoverByMarks undoes what the marks of links and tables show, without the journal.
func recoverByMarks(ctx context.Context, k step.Kernel, n rundir.Network, damage error) (string, error) {
	facts, err := host.ObserveNetwork()
	if err != nil {
		return "", err
	}
	if facts.Firewalld, err = firewalld.Observe(ctx); err != nil {
		return "", err
	}
	if err := journal.UndoByMarks(ctx, k, facts, n.Name); err != nil {
		return "", fmt.Errorf("undo network %q: %w", n.Name, err)
	}
	return fmt.Sprintf("network %s by its marks, because its journal is damaged (%v); if it was a nat network, "+
		"look whether the forwarding of your uplinks is as it should be", n.Name, damage), nil
}

// lives reports whether what the journal lists can exist here. The links of a network
// namespace go with the namespace and with the boot. If the journal's namespace is
// another one that lives, that is an error.
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
		return false, host.Refuse("network %q was made in another network namespace (%s): use another --run-dir here",
			j.Plan.Network.Name, j.NetNS)
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
