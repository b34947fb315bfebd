package rundir

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/qnet-vm/qnet/internal/lockfile"
	"github.com/qnet-vm/qnet/internal/perm"
)

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestPaths(t *testing.T) {
	vm, network := VM{"/run/qnet", "web"}, Network{"/run/qnet", "dev"}
	for got, want := range map[string]string{
		vm.Socket():          "/run/qnet/vms/web/control.sock",
		vm.Lock():            "/run/qnet/locks/vm-web",
		network.Socket():     "/run/qnet/networks/dev/keeper.sock",
		network.Journal():    "/run/qnet/networks/dev/journal.json",
		network.StartLock():  "/run/qnet/locks/start-dev",
		network.KeeperLock(): "/run/qnet/locks/net-dev",
		network.PlanLock():   "/run/qnet/locks/plan",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// The last directory to go takes the empty run directory with it.
func TestMakeListRemove(t *testing.T) {
	run := filepath.Join(t.TempDir(), "run")
	if vms, err := VMs(run); err != nil || len(vms) != 0 {
		t.Errorf("no run directory: VMs %v, %v", vms, err)
	}
	if networks, err := Networks(run); err != nil || len(networks) != 0 {
		t.Errorf("no run directory: networks %v, %v", networks, err)
	}
	vm, other, network := VM{run, "a"}, VM{run, "b"}, Network{run, "dev"}
	for _, create := range []func() error{vm.Make, vm.Make, other.Make, network.Make} { // a second time is no error
		if err := create(); err != nil {
			t.Fatal(err)
		}
	}
	if vms, err := VMs(run); err != nil || len(vms) != 2 || vms[0] != vm || vms[1] != other {
		t.Errorf("VMs: %v, %v", vms, err)
	}
	if networks, err := Networks(run); err != nil || len(networks) != 1 || networks[0] != network {
		t.Errorf("networks: %v, %v", networks, err)
	}
	for _, remove := range []func() error{vm.Remove, vm.Remove, network.Remove} {
		if err := remove(); err != nil {
			t.Fatal(err)
		}
	}
	if !exists(other.Dir()) || exists(network.Dir()) {
		t.Errorf("the other VM's directory: %t, the network's: %t", exists(other.Dir()), exists(network.Dir()))
	}
	if err := other.Remove(); err != nil || exists(run) {
		t.Errorf("the run directory stays: %v", err)
	}
}

// A process that makes its directory does not fail because another one removes the
// empty directories above it.
func TestMakeBesideRemove(t *testing.T) {
	run := filepath.Join(t.TempDir(), "run")
	var all sync.WaitGroup
	for _, name := range []string{"a", "b", "c"} {
		all.Go(func() {
			for range 200 {
				vm, network := VM{run, name}, Network{run, name}
				if err := errors.Join(vm.Make(), network.Make()); err != nil {
					t.Error(err)
				}
				if err := errors.Join(vm.Remove(), network.Remove()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if exists(run) {
		t.Error("the run directory stays")
	}
}

// Where no directory can be made, as in /proc and behind a link to nothing, that is an error.
func TestMakeWhereNothingCanBe(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/nonexistent/run", link); err != nil {
		t.Fatal(err)
	}
	for _, run := range []string{"/proc/qnet", link} {
		vm := VM{run, "a"}
		if err := vm.Make(); err == nil {
			t.Errorf("%s: made", run)
		}
		if _, err := lockfile.Try(vm.Lock()); err == nil {
			t.Errorf("%s: locked", run)
		}
	}
}

func TestPathTooLong(t *testing.T) {
	long := "/" + strings.Repeat("d", MaxSocketPath)
	for _, err := range []error{VM{long, "a"}.Make(), Network{long, "a"}.Make()} {
		if !errors.Is(err, ErrPathTooLong) || !strings.Contains(err.Error(), "107 fit") {
			t.Errorf("got %v", err)
		}
	}
}

// A name that leads elsewhere makes nothing and removes nothing, and neither does a symbolic
// link in the place of a directory.
func TestBadNames(t *testing.T) {
	base := t.TempDir()
	run, victim := filepath.Join(base, "run"), filepath.Join(base, "victim")
	err := errors.Join(os.Mkdir(victim, 0o755), os.WriteFile(filepath.Join(victim, "file"), nil, 0o644), VM{run, "a"}.Make(), Network{run, "a"}.Make())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../../victim", "a/../../../victim", "..", ".", "", "/", "a/b", "A", "a\n"} {
		vm, n := VM{run, name}, Network{run, name}
		_, livesErr := vm.Lives()
		for what, err := range map[string]error{
			"make": vm.Make(), "remove": vm.Remove(), "collect": vm.Collect(), "lives": livesErr, "make network": n.Make(), "remove network": n.Remove(),
		} {
			if !errors.Is(err, ErrBadName) {
				t.Errorf("%s %q: %v", what, name, err)
			}
		}
	}
	if err := errors.Join(os.Symlink(victim, VM{run, "b"}.Dir()), VM{run, "b"}.Remove()); err != nil {
		t.Error(err)
	}
	if err := os.Mkdir(filepath.Join(run, "vms", "No Name"), 0o755); err != nil {
		t.Fatal(err)
	}
	if vms, err := VMs(run); err != nil || len(vms) != 1 || vms[0].Name != "a" {
		t.Errorf("VMs %v, %v", vms, err)
	}
	if !exists(filepath.Join(victim, "file")) || exists(VM{run, "b"}.Dir()) || !exists(Network{run, "a"}.Dir()) {
		t.Error("a file elsewhere is gone, or the link stays")
	}
}

// What a dead supervisor left is removed, and what a living one has is not.
func TestCollect(t *testing.T) {
	vm := VM{filepath.Join(t.TempDir(), "run"), "a"}
	if vm.Left() {
		t.Error("something is left of a VM that never ran")
	}
	lock, err := lockfile.Try(vm.Lock())
	if err == nil {
		err = vm.Make()
	}
	if err != nil {
		t.Fatal(err)
	}
	if lives, err := vm.Lives(); !lives || err != nil {
		t.Errorf("its supervisor lives: %t, %v", lives, err)
	}
	if err := vm.Collect(); !errors.Is(err, lockfile.ErrHeld) || !exists(vm.Dir()) {
		t.Errorf("collect a living one: %v", err)
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	if lives, err := vm.Lives(); lives || err != nil {
		t.Errorf("its supervisor is dead: %t, %v", lives, err)
	}
	if !vm.Left() {
		t.Error("nothing is left of a dead one")
	}
	other := VM{vm.RunDir, "b"}
	lock, err = lockfile.Try(other.Lock())
	if err == nil {
		err = other.Make()
	}
	if err != nil {
		t.Fatal(err)
	}
	if vms, err := Collect(vm.RunDir); err != nil || len(vms) != 1 || vms[0] != vm || vm.Left() || !other.Left() {
		t.Errorf("collect: %v, %v, left %t and %t", vms, err, vm.Left(), other.Left())
	}
	if err := errors.Join(other.Remove(), lock.Release()); err != nil || exists(vm.RunDir) {
		t.Errorf("the run directory stays: %v", err)
	}
}

// An older qnet under umask 077 left directories that users cannot enter. The next run puts
// them right, also those of VMs that still run.
func TestMakeMends(t *testing.T) {
	run := filepath.Join(t.TempDir(), "run")
	left, vm := VM{run, "left"}, VM{run, "a"}
	network := Network{run, "dev"}
	if err := errors.Join(os.MkdirAll(Locks(run), 0o755), left.Make(), network.Make(), os.WriteFile(network.Journal(), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	dirs := []string{run, Locks(run), vmsDir(run), left.Dir(), networksDir(run), network.Dir()}
	for _, dir := range dirs {
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := vm.Make(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range append(dirs, vm.Dir()) {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != perm.Dir() {
			t.Errorf("%s: %v, %v, want %v", dir, info.Mode(), err, perm.Dir())
		}
	}
	if info, err := os.Stat(network.Journal()); err != nil || info.Mode().Perm() != perm.File() {
		t.Errorf("journal: %v, %v, want %v", info.Mode(), err, perm.File())
	}
}

// A directory that a user named and that holds other files keeps its permissions: it could
// be /root.
func TestMakeStateLeavesOthersAlone(t *testing.T) {
	dir := t.TempDir()
	bits := func() os.FileMode {
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, ".profile"), nil, 0o600), os.Chmod(dir, 0o710), MakeState(dir, "logs")); err != nil || bits() != 0o710 {
		t.Errorf("with another file: %v, %04o", err, bits())
	}
	if err := os.Remove(filepath.Join(dir, ".profile")); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"", "logs", "leases"} {
		if err := errors.Join(os.Chmod(dir, 0o700), MakeState(dir, sub)); err != nil || bits() != perm.Dir() {
			t.Errorf("make %q: %v, %04o, want %v", sub, err, bits(), perm.Dir())
		}
	}
}
