package asuser

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
)

func TestDoHasTheUsersRights(t *testing.T) {
	lab.Require(t, lab.Root)
	dir := t.TempDir()
	os.Chmod(filepath.Dir(dir), 0o755)
	os.Chmod(dir, 0o755)
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	u := &User{UID: 65534, GID: 65534, Groups: []uint32{65534}}
	open := func() error {
		f, err := os.Open(secret)
		if err == nil {
			f.Close()
		}
		return err
	}
	if err := u.Do(open); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("as nobody: got %v, want a refusal", err)
	}
	if err := open(); err != nil {
		t.Errorf("as root afterwards: %v", err)
	}
	if err := u.Chown(secret); err != nil {
		t.Fatal(err)
	}
	if err := u.Do(open); err != nil {
		t.Errorf("as its owner: %v", err)
	}
}

// A file system of the user's own, as FUSE without allow_other is, asks for all ids of
// the thread. Other threads stay root's, and the user's rights end with the function.
func TestDoHasAllOfTheUsersIDs(t *testing.T) {
	lab.Require(t, lab.Root)
	u := &User{UID: 65534, GID: 65533, Groups: []uint32{65533, 65532}}
	status := func() (string, error) {
		b, err := os.ReadFile("/proc/thread-self/status")
		return string(b), err
	}
	var got string
	for range 50 { // some of them on threads that were others' before
		if err := u.Do(func() (err error) { got, err = status(); return err }); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"Uid:\t65534\t65534\t65534\t65534\n", "Gid:\t65533\t65533\t65533\t65533\n", "Groups:\t65532 65533 \n", "CapEff:\t00000000000000c0\n", "CapPrm:\t00000000000000c0\n",
		} {
			if !strings.Contains(got, want) {
				t.Fatalf("no %q in:\n%s", want, got)
			}
		}
		if root, err := status(); err != nil || !strings.Contains(root, "Uid:\t0\t0\t0\t0\n") || strings.Contains(root, "CapEff:\t00000000000000c0\n") {
			t.Fatalf("afterwards: %v\n%s", err, root)
		}
		if main, err := os.ReadFile("/proc/self/status"); err != nil || !strings.Contains(string(main), "Uid:\t0\t0\t0\t0\n") {
			t.Fatalf("the main thread: %v\n%s", err, main)
		}
	}
}

// A process that drops its rights may just have done something as the user: the ids of
// all threads change, also of one that ends.
func TestDropBesideDo(t *testing.T) {
	lab.Require(t, lab.Root)
	if os.Getenv("QNET_TEST_DROPS") == "" {
		for range 20 {
			cmd := exec.Command(os.Args[0], "-test.run=^TestDropBesideDo$")
			cmd.Env = append(os.Environ(), "QNET_TEST_DROPS=1")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
		return
	}
	u := &User{UID: 65534, GID: 65533, Groups: []uint32{65533}}
	for range 8 {
		go u.Do(func() error { return nil })
	}
	if err := errors.Join(u.Do(func() error { return nil }), u.Drop(), AsRoot(func() error { return nil })); err != nil {
		t.Error(err)
	}
}

func TestHome(t *testing.T) {
	env := map[string]string{"HOME": "/home/u"}
	getenv := func(k string) string { return env[k] }
	var own *User
	if got := own.Home(getenv); got != "/home/u" {
		t.Errorf("HOME: %q", got)
	}
	entry, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, home := range []string{"", "u", "./u"} {
		env["HOME"] = home
		if got := own.Home(getenv); got != entry.HomeDir {
			t.Errorf("HOME=%q: got %q, want %q", home, got, entry.HomeDir)
		}
	}
	env["HOME"] = "/root"
	if got := (&User{UID: 4294967290}).Home(getenv); got != "" {
		t.Errorf("root's HOME is not the user's: %q", got)
	}
	if got := (&User{}).Home(getenv); got == "" {
		t.Error("the home of an entry is not found")
	}
	if Name(0) != "root" || Name(4294967290) != "user 4294967290" {
		t.Errorf("names %q, %q", Name(0), Name(4294967290))
	}
}

func TestLookup(t *testing.T) {
	lab.Require(t, lab.Root)
	env := map[string]string{}
	getenv := func(k string) string { return env[k] }
	if u, err := Lookup(getenv); u != nil || err != nil {
		t.Errorf("without sudo: got %v, %v", u, err)
	}
	env["SUDO_UID"], env["SUDO_GID"] = "1000", "1001"
	if u, err := Lookup(getenv); err != nil || u.UID != 1000 || u.GID != 1001 {
		t.Errorf("got %+v, %v", u, err)
	}
	env["SUDO_UID"] = "x"
	if _, err := Lookup(getenv); err == nil {
		t.Error("a broken SUDO_UID was taken")
	}
}

func TestBehindSudo(t *testing.T) {
	broken := errors.New("broken")
	groups := func(uid string) ([]string, error) {
		switch uid {
		case "1000":
			return []string{"1001", "27", "x"}, nil
		case "1002":
			return nil, broken
		}
		return nil, nil
	}
	for _, c := range []struct {
		name, uid, gid string
		want           *User
		wrong          bool
	}{
		{"no sudo", "", "", nil, false},
		{"a user with groups", "1000", "1001", &User{1000, 1001, []uint32{1001, 27}}, false},
		{"a user without an entry", "1003", "1003", &User{1003, 1003, []uint32{1003}}, false},
		{"root", "0", "0", nil, false},
		{"no number", "x", "1", nil, true},
		{"no group", "1000", "", nil, true},
		{"nobody's id", "4294967295", "1000", nil, true},
		{"nobody's group", "1000", "4294967295", nil, true},
		{"an id of 33 bits", "4294967296", "1000", nil, true},
		{"a negative id", "-1", "1000", nil, true},
		{"groups that cannot be read", "1002", "1002", nil, true},
	} {
		env := map[string]string{"SUDO_UID": c.uid, "SUDO_GID": c.gid}
		u, err := behindSudo(func(k string) string { return env[k] }, groups)
		if !reflect.DeepEqual(u, c.want) || (err != nil) != c.wrong {
			t.Errorf("%s: got %+v, %v", c.name, u, err)
		}
	}
	if ids, err := supplementary("4294967294"); ids != nil || err != nil {
		t.Errorf("a uid without an entry: %v, %v", ids, err)
	}
	if ids, err := supplementary("0"); len(ids) == 0 || err != nil {
		t.Errorf("root: %v, %v", ids, err)
	}
}

// Without sudo all is done as the process's own user.
func TestOwnUser(t *testing.T) {
	var u *User
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ran := 0
	run := func() error { ran++; return fs.ErrClosed }
	if err := u.Do(run); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("do: %v", err)
	}
	if err := AsRoot(run); !errors.Is(err, fs.ErrClosed) || ran != 2 {
		t.Errorf("as root: %v, ran %d times", err, ran)
	}
	if err := errors.Join(u.Drop(1, 2), u.Chown(path)); err != nil {
		t.Error(err)
	}
	if err := (&User{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}).Chown(path); err != nil {
		t.Errorf("chown to the owner: %v", err)
	}
}

// Only root becomes another user. A process that may not stays as it is.
func TestWithoutRights(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may")
	}
	env := map[string]string{"SUDO_UID": "1000", "SUDO_GID": "1000"}
	if u, err := Lookup(func(k string) string { return env[k] }); u != nil || err != nil {
		t.Errorf("a process that is not root's believes SUDO_UID: %+v, %v", u, err)
	}
	u := &User{UID: 1, GID: 1, Groups: []uint32{1}}
	if err := u.Drop(); !errors.Is(err, fs.ErrPermission) || dropped != nil {
		t.Errorf("drop: %v", err)
	}
	if err := u.Do(func() error { t.Error("it ran with other rights"); return nil }); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("do: %v", err)
	}
}
