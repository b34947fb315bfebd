package rundir

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lockfile"
	"github.com/qnet-vm/qnet/internal/perm"
)

// A directory is trusted if nobody else can change what its path leads to.
func TestTrust(t *testing.T) {
	lab.Require(t, lab.Root)
	base := t.TempDir()
	in := func(parts ...string) string { return filepath.Join(append([]string{base}, parts...)...) }
	dir := func(dir string, uid, gid int, mode uint32) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(in(dir), 0o755), os.Chown(in(dir), uid, gid), unix.Chmod(in(dir), mode)); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, name string, uid int) {
		t.Helper()
		if err := errors.Join(os.Symlink(to, in(name)), os.Lchown(in(name), uid, 0)); err != nil {
			t.Fatal(err)
		}
	}
	for _, above := range []string{filepath.Dir(base), base} {
		os.Chmod(above, 0o755)
	}
	dir("own", 0, 0, 0o755)
	dir("theirs", 64001, 0, 0o755)
	dir("group", 0, 64001, 0o775)
	dir("rootsgroup", 0, 0, 0o775)
	dir("all", 0, 0, 0o777)
	dir("sticky", 0, 0, 0o777|unix.S_ISVTX)
	dir("sticky/own", 0, 0, 0o755)
	dir("sticky/theirs", 64001, 0, 0o700)
	dir("theirs/own", 0, 0, 0o755)
	dir("all/own", 0, 0, 0o755)
	link("own", "link", 0)
	link("own", "theirlink", 64001)
	link("theirs/own", "linkintotheirs", 0)
	link("loop", "loop", 0)
	for path, want := range map[string]bool{
		"own": true, "own/missing/below": true, "rootsgroup": true, "sticky/own": true, "sticky/own/missing": true, "link": true, "link/missing": true, "loop": true, "missing": true,
		"theirs": false, "theirs/missing": false, "theirs/own": false, "group": false, "group/missing": false, "all": false, "all/own": false, "sticky": false, "sticky/theirs": false,
		"theirlink": false, "theirlink/missing": false, "linkintotheirs": false, "linkintotheirs/missing": false,
	} {
		err := Trust(in(path))
		if got := err == nil; got != want || err != nil && (!errors.Is(err, ErrUntrusted) || !strings.Contains(err.Error(), base)) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := Trust(in("theirs/missing"), 64001); err != nil {
		t.Errorf("of the user behind sudo: %v", err)
	}
}

// canary is a file that no run may change.
type canary struct {
	file string
	st   unix.Stat_t
}

func newCanary(t *testing.T, file string, owner int, mode uint32) canary {
	t.Helper()
	c := canary{file: file}
	err := errors.Join(os.WriteFile(file, []byte("canary"), 0o644), os.Chown(file, owner, owner), unix.Chmod(file, mode), unix.Stat(file, &c.st))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c canary) check(t *testing.T) {
	t.Helper()
	var st unix.Stat_t
	text, err := os.ReadFile(c.file)
	if err := errors.Join(err, unix.Stat(c.file, &st)); err != nil || string(text) != "canary" || st.Mode != c.st.Mode || st.Uid != c.st.Uid || st.Gid != c.st.Gid || st.Ino != c.st.Ino {
		t.Fatalf("%v, %q, mode %o, owner %d:%d", err, text, st.Mode, st.Uid, st.Gid)
	}
}

// While a VM's files are made, given to its user and removed again, links to other files
// take their places all the time. These files never change.
func TestLinksInTheirPlace(t *testing.T) {
	lab.Require(t, lab.Root)
	base, err := os.MkdirTemp("", "qnet") //nolint:usetesting // t.TempDir's path may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	// A user can give files of his own a second name, and any file a symbolic link.
	theirs, roots := newCanary(t, filepath.Join(base, "theirs"), 64001, 0o4644), newCanary(t, filepath.Join(base, "roots"), 0, 0o4640)
	vm, network := VM{filepath.Join(base, "run"), "a"}, Network{filepath.Join(base, "run"), "dev"}
	places := []string{vm.Lock(), vm.Socket(), vm.Dir(), network.Journal(), network.KeeperLock(), network.Socket(), Locks(vm.RunDir) + "/plan", network.Journal() + ".new"}
	swapped := 0
	stop := lab.Meanwhile(func(i int) {
		fresh := filepath.Join(base, "link")
		os.Remove(fresh)
		err := os.Symlink(roots.file, fresh)
		if i%2 == 0 {
			err = errors.Join(os.Remove(fresh), os.Link(theirs.file, fresh))
		}
		if err == nil && os.Rename(fresh, places[i/2%len(places)]) == nil {
			swapped++
		}
	})
	user := &asuser.User{UID: 65534, GID: 65534}
	refused := 0
	for range 300 {
		// What fails, fails because of a link: only the canaries count.
		errs := []error{vm.Make(), network.Make()}
		for _, path := range []string{vm.Lock(), network.KeeperLock()} {
			lock, err := lockfile.Try(path)
			if err == nil {
				err = lock.Release()
			}
			errs = append(errs, err)
		}
		for _, path := range []string{vm.Socket(), network.Socket()} {
			os.Remove(path)
			l, err := perm.Listen(t.Context(), "unix", path)
			errs = append(errs, err, user.Chown(path))
			if err == nil {
				l.Close()
			}
		}
		_, err := perm.Mend(network.Journal(), perm.File())
		errs = append(errs, err, vm.Remove(), network.Remove())
		if errors.Join(errs...) != nil {
			refused++
		}
		theirs.check(t)
		roots.check(t)
	}
	stop()
	t.Logf("%d links took a place, and %d rounds met one", swapped, refused)
	if swapped < 100 || refused < 20 {
		t.Errorf("only %d links took a place, and %d rounds met one", swapped, refused)
	}
}
