package gather

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/firstboot"
	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/reachable"
	"github.com/qnet-vm/qnet/internal/sshkey"
	"github.com/qnet-vm/qnet/internal/vmdir"
	"github.com/qnet-vm/qnet/profiles"
)

// request is that of a user with one key in a home of the test's own.
func request(t *testing.T) Request {
	t.Helper()
	dir := t.TempDir()
	vm, err := vmdir.New(filepath.Join(dir, "vms"), "web")
	if err != nil {
		t.Fatal(err)
	}
	r := Request{
		Profile: &profiles.Profile{Name: "web", Path: filepath.Join(dir, "web.toml"), Guest: &profiles.Guest{User: "me"}},
		VM:      vm, Config: filepath.Join(dir, "config"), Home: filepath.Join(dir, "home"),
		Getenv: func(string) string { return "" },
	}
	key(t, filepath.Join(r.Home, ".ssh", "id_ed25519"))
	return r
}

func key(t *testing.T, path string) string {
	t.Helper()
	pair, err := sshkey.Ensure(path, sshkey.Ed25519, filepath.Base(path))
	if err != nil {
		t.Fatal(err)
	}
	return pair.Public
}

func get(t *testing.T, r Request) firstboot.Settings {
	t.Helper()
	s, err := Settings(r)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A second run tells the guest the same, whatever other keys the user has by then. A change
// of the profile tells it all anew.
func TestSecondRun(t *testing.T) {
	r := request(t)
	first := get(t, r)
	if len(first.Keys) != 1 || len(first.HostKeys) != 2 || first.OwnKey == "" || !strings.Contains(first.HostKeys[0].Private, "PRIVATE KEY") {
		t.Fatalf("got %+v", first)
	}
	newer := key(t, filepath.Join(r.Home, ".ssh", "id_new"))
	second := get(t, r)
	if second.InstanceID() != first.InstanceID() || !slices.Equal(second.Keys, first.Keys) || !slices.Equal(second.HostKeys, first.HostKeys) {
		t.Errorf("got %+v, before %+v", second, first)
	}
	r.Profile.Guest.Run = []string{"true"}
	third := get(t, r)
	if third.InstanceID() == first.InstanceID() || !slices.Contains(third.Keys, newer) || !slices.Equal(third.HostKeys, first.HostKeys) {
		t.Errorf("got %+v", third)
	}
	shown, err := Preview(r)
	if err != nil || shown.InstanceID() != third.InstanceID() || !slices.Equal(shown.Keys, third.Keys) {
		t.Errorf("preview %+v, %v", shown, err)
	}
}

// A preview makes nothing.
func TestPreview(t *testing.T) {
	r := request(t)
	s, err := Preview(r)
	if err != nil || len(s.Keys) != 1 || len(s.HostKeys) != 2 {
		t.Errorf("got %+v, %v", s, err)
	}
	for _, path := range []string{r.VM.Path(), r.Config} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Only the user can read what holds a secret.
func TestPermissions(t *testing.T) {
	r := request(t)
	get(t, r)
	for _, dir := range []string{r.VM.Path(), r.VM.File("hostkeys"), r.Config} {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v", dir, info.Mode())
		}
	}
	for _, file := range []string{OwnKey(r.Config), r.VM.File(hostKeys[0].file), r.VM.File(hostKeys[1].file)} {
		if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v", file, info.Mode())
		}
	}
}

// Behind sudo the account is the user's, and so are the files.
func TestBehindSudo(t *testing.T) {
	lab.Require(t, lab.Root)
	r := request(t)
	r.Profile.Guest, r.Profile.Image = nil, profiles.Image{Name: "debian-12"}
	r.User = &asuser.User{UID: 65534, GID: 65534, Groups: []uint32{65534}}
	root := filepath.Dir(r.Home)
	for _, dir := range []string{filepath.Dir(root), root} {
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(r.Home, ".ssh"), 0o700); err != nil { // root's: the user has no keys
		t.Fatal(err)
	}
	s := get(t, r)
	if s.User != "nobody" || len(s.Keys) != 0 || s.OwnKey == "" || s.Hostname != "web" {
		t.Errorf("got %+v", s)
	}
	if entries, err := os.ReadDir(r.VM.Path()); err != nil || len(entries) != 2 {
		t.Errorf("got %v, %v", entries, err)
	}
	lab.Sh(t, "test $(find "+r.Config+" "+r.VM.Path()+" -not -uid 65534 | wc -l) = 0")
}

// root without a user behind sudo has the image's account, and root's where that is not
// known.
func TestLogin(t *testing.T) {
	lab.Require(t, lab.Root)
	for _, c := range []struct {
		request Request
		want    string
	}{
		{Request{DefaultUser: "debian"}, "debian"},
		{Request{}, "root"},
		{Request{Ignition: true}, "core"},
		{Request{User: &asuser.User{UID: 54321}}, "user"},
		{Request{User: &asuser.User{UID: 54321}, DefaultUser: "fedora"}, "fedora"},
	} {
		if got := c.request.login(c.request.Ignition); got != c.want {
			t.Errorf("%+v: got %s, want %s", c.request, got, c.want)
		}
	}
}

// The user's data may be in a folder that the user allows.
func TestAllowed(t *testing.T) {
	r, elsewhere := request(t), filepath.Join(t.TempDir(), "user-data")
	if err := os.WriteFile(elsewhere, []byte("#cloud-config\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.Profile.Guest.UserData = elsewhere
	var bad *reachable.Error
	if _, err := Settings(r); !errors.As(err, &bad) || bad.Key != "guest.user_data" {
		t.Errorf("not allowed: %v", err)
	}
	r.Profile.Allowed = []string{filepath.Dir(elsewhere)}
	if s := get(t, r); s.UserData.Text != "#cloud-config\n" {
		t.Errorf("got %+v", s.UserData)
	}
}

// What the profile names and does not exist, or is something else, is said with its key.
func TestBadFiles(t *testing.T) {
	for name, c := range map[string]struct {
		guest func(dir string) profiles.Guest
		want  string
	}{
		"no-user-data": {func(d string) profiles.Guest { return profiles.Guest{UserData: d + "/none"} }, "guest.user_data: open"},
		"elsewhere":    {func(string) profiles.Guest { return profiles.Guest{UserData: "/etc/passwd"} }, "guest.user_data: "},
		"directory":    {func(d string) profiles.Guest { return profiles.Guest{UserData: d} }, "no regular file"},
		"no-key":       {func(d string) profiles.Guest { return profiles.Guest{Keys: []profiles.Key{{File: d + "/none.pub"}}} }, "guest.keys[0]: read public key: open"},
		"private-key": {func(d string) profiles.Guest {
			return profiles.Guest{Keys: []profiles.Key{{File: d + "/home/.ssh/id_ed25519"}}}
		}, "this is a private key; name its .pub file"},
		"no-text": {func(string) profiles.Guest { return profiles.Guest{Keys: []profiles.Key{{Text: "ssh-rsa !"}}} }, "guest.keys[0]: no public key"},
	} {
		r := request(t)
		g := c.guest(filepath.Dir(r.Home))
		r.Profile.Guest = &g
		if _, err := Settings(r); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}
