package reachable

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/profiles"
)

func TestCheck(t *testing.T) {
	top := t.TempDir()
	for _, dir := range []string{"own/sub", "own-not", "secret", "images/x"} {
		if err := os.MkdirAll(filepath.Join(top, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"own/out": "../secret", "own/in": "sub", "own/nowhere": "../secret/none", "alias": "own"} {
		if err := os.Symlink(target, filepath.Join(top, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		profile, path string
		exists, ok    bool
	}{
		{"own/vm.toml", "own", true, true},
		{"own/vm.toml", "own/sub", true, true},
		{"own/vm.toml", "own/in", true, true},
		{"own/vm.toml", "own/out", true, false},
		{"own/vm.toml", "own/sub/../../secret", true, false},
		{"own/vm.toml", "own-not", true, false},
		{"own/vm.toml", "secret", true, false},
		{"own/vm.toml", ".", true, false},
		{"own/vm.toml", "/", true, false},
		{"own/vm.toml", "images/x", true, true},
		{"alias/vm.toml", "own/sub", true, true},
		{"own/vm.toml", "own/new.qcow2", false, true},
		{"own/vm.toml", "own/a/b/new.qcow2", false, true},
		{"own/vm.toml", "own/out/new.qcow2", false, false},
		{"own/vm.toml", "own/nowhere", false, false},
		{"own/vm.toml", "secret/new.qcow2", false, false},
	} {
		path := filepath.Join(top, c.path)
		if c.path == "/" {
			path = "/"
		}
		if strings.Contains(c.path, "..") {
			path = top + "/" + c.path
		}
		f, err := Of(&profiles.Profile{Path: filepath.Join(top, c.profile), Allowed: []string{filepath.Join(top, "images"), filepath.Join(top, "missing")}}, "", Qnets{})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.CheckPath("share[0].path", path); (err == nil) != c.ok {
			t.Errorf("%s from %s: %v", c.path, c.profile, err)
		}
		if !c.exists {
			continue
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		err = f.Check("share[0].path", path, file)
		file.Close()
		if (err == nil) != c.ok {
			t.Errorf("%s from %s, open: %v", c.path, c.profile, err)
		}
		var bad *Error
		if !c.ok && (!errors.As(err, &bad) || !strings.Contains(bad.Hint(), "--allow-path "+bad.Real)) {
			t.Errorf("%s: got %#v", c.path, err)
		}
	}
}

// A path that another process changes after the file was opened changes nothing.
func TestCheckOfWhatWasOpened(t *testing.T) {
	top := t.TempDir()
	own, secret := filepath.Join(top, "own"), filepath.Join(top, "secret")
	for _, dir := range []string{own, secret} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(own, "data")
	if err := os.Symlink(secret, path); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	f, err := Of(&profiles.Profile{Path: filepath.Join(own, "vm.toml")}, "", Qnets{})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Check("share[0].path", path, file); err == nil {
		t.Error("what was opened is outside, and is taken for what is there now")
	}
	if err := os.Remove(secret); err != nil {
		t.Fatal(err)
	}
	var bad *Error
	if err := f.Check("share[0].path", path, file); err == nil || errors.As(err, &bad) {
		t.Errorf("a folder that was removed: %v", err)
	}
}
