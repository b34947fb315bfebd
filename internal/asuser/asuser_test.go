package asuser

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
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
