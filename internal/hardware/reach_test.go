package hardware

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/reachable"
	"github.com/qnet-vm/qnet/profiles"
)

// pathKeys are the keys of the schema that name something on the host, and a profile with only
// that one, in which %s is the path.
var pathKeys = map[string]string{
	"image":           "image = %q",
	"boot.kernel":     "[boot]\nkernel = %q",
	"boot.initrd":     "[boot]\nkernel = \"own\"\ninitrd = %q",
	"guest.keys":      "[guest]\nkeys = [%q]",
	"guest.user_data": "[guest]\nkeys = []\nuser_data = %q",
	"disk.file":       "[[disk]]\nfile = %q\nformat = \"raw\"",
	"disk.base":       "[[disk]]\nbase = %q\nbase_format = \"raw\"",
	"share.path":      "[[share]]\npath = %q\nmount = \"/src\"",
}

// otherKeys are further profiles of these keys.
var otherKeys = map[string]string{
	"disk.file, a CD-ROM":     "[[disk]]\nfile = %q\ntype = \"cdrom\"",
	"disk.file, readonly":     "[[disk]]\nfile = %q\nformat = \"raw\"\nreadonly = true",
	"disk.file, snapshot":     "[[disk]]\nfile = %q\nformat = \"raw\"\nsnapshot = true",
	"disk.file, created":      "[[disk]]\nfile = %q\ncreate = true\nsize = \"1MiB\"",
	"disk.file, an overlay":   "[[disk]]\nfile = %q\nbase = \"own\"\nbase_format = \"raw\"",
	"disk.file, behind image": "image = \"./own.qcow2\"\n[[disk]]\nfile = %q\nformat = \"raw\"",
}

// noPaths are the keys that can hold a path's text and name nothing on the host.
var noPaths = []string{
	"boot.cmdline", "guest.run", "nic.address", "nic.address6", "network.subnet", "network.subnet6", "nic.ports", "nic.egress", "network.pxe.server", "network.pxe.file", // the guest's, addresses, names, and the TFTP server's
	"share.mount", // in the guest
}

// Each key of the schema that could hold a path is one of pathKeys, or names nothing on the host. A
// new key fails here until it is one of them, and so is refused like the others.
func TestEachKeyIsAPathOrNone(t *testing.T) {
	text, err := profiles.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	keys := 0
	var walk func(key string, s map[string]any)
	walk = func(key string, s map[string]any) {
		for _, inner := range []string{"items", "additionalProperties"} {
			if below, ok := s[inner].(map[string]any); ok {
				walk(key, below)
			}
		}
		properties, _ := s["properties"].(map[string]any)
		for name, below := range properties {
			walk(strings.TrimPrefix(key+"."+name, "."), below.(map[string]any))
		}
		pattern, _ := s["pattern"].(string)
		if s["type"] != "string" || s["enum"] != nil || pattern != "" && !regexp.MustCompile(pattern).MatchString("/x/y") {
			return
		}
		keys++
		if _, ok := pathKeys[key]; ok == slices.Contains(noPaths, key) {
			t.Errorf("%s: is it a path? then it needs namedBy, and a check where it is opened", key)
		}
	}
	walk("", schema)
	if keys != len(pathKeys)+len(noPaths) {
		t.Errorf("%d keys can hold a path, want %d", keys, len(pathKeys)+len(noPaths))
	}
}

// reaching is a folder with a profile's own files, and a secret beside it.
type reaching struct {
	*testing.T
	dir, own, secret, key string
	o                     Options
}

func newReaching(t *testing.T, user *asuser.User) reaching {
	t.Helper()
	dir := lab.Dir(t)
	r := reaching{t, dir, filepath.Join(dir, "own"), filepath.Join(dir, "secret"), "", Options{User: user, VMs: filepath.Join(dir, "vms"), Images: filepath.Join(dir, "images"), Config: filepath.Join(dir, "config")}}
	public := []byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHk0vCDpPeNrg2yWU9h8w3vGXZLSnEpwNfPYLVQJzQ7K me\n")
	err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(r.own, 0o755), os.Mkdir(r.secret, 0o755), os.WriteFile(r.own+"/own", make([]byte, 1<<20), 0o644), os.WriteFile(r.own+"/key.pub", public, 0o644),
		os.WriteFile(r.secret+"/file", make([]byte, 1<<20), 0o666), os.Mkdir(r.secret+"/folder", 0o755), os.Symlink("../secret/file", r.own+"/link"), os.Symlink("../secret", r.own+"/up"),
		os.Chmod(r.secret+"/file", 0o666), os.WriteFile(r.secret+"/key.pub", public, 0o644), os.Link(r.secret+"/file", r.own+"/hard"), os.Link(r.secret+"/key.pub", r.own+"/hard.pub"))
	if user != nil {
		err = errors.Join(err, os.Chown(r.own, int(user.UID), int(user.GID)), os.Chown(dir, int(user.UID), int(user.GID)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// load reads a profile of the own folder.
func (r reaching) load(text string) *profiles.Profile {
	r.Helper()
	p, err := profiles.Decode(strings.NewReader("accel = \"tcg\"\n"+text+"\n"), r.own+"/vm.toml")
	if err != nil {
		r.Fatal(err)
	}
	return p
}

// paths are the ways out of the folder. A key of folders has one of them.
func (r reaching) paths(key string, open *os.File) map[string]string {
	if key == "share.path" {
		return map[string]string{r.secret: r.secret, "../secret/none": r.secret + "/none", "../secret/folder": r.secret + "/folder", "up": r.secret, "up/folder": r.secret + "/folder"}
	}
	return map[string]string{
		r.secret + "/file": r.secret + "/file", "../secret/file": r.secret + "/file", "./link": r.secret + "/file", "up/file": r.secret + "/file", r.own + "/./x/../up//file": r.secret + "/file",
		fmt.Sprintf("/proc/self/fd/%d", open.Fd()): r.secret + "/file", "../secret/missing.raw": r.secret + "/missing.raw", "/etc/passwd": "/etc/passwd",
	}
}

// outside checks the error of a profile that names what is outside.
func (r reaching) outside(what, key, place string, err error) {
	r.Helper()
	outside, ok := errors.AsType[*reachable.Error](err)
	if !ok || outside.Real != place {
		r.Errorf("%s: %v, want one about %s", what, err, place)
		return
	}
	table, _, _ := strings.Cut(key, ",")
	table = regexp.MustCompile(`^(disk|share)`).ReplaceAllString(strings.ReplaceAll(table, "guest.keys", "guest.keys[0]"), "$1[0]")
	if where := regexp.MustCompile(`vm\.toml:\d+: ` + regexp.QuoteMeta(table) + `: got `); !where.MatchString(err.Error()) || !strings.Contains(err.Error(), "allowed: ") || strings.Contains(err.Error(), "\n") {
		r.Errorf("%s: got %q, want file, line and key %s", what, err, table)
	}
	hint, ok := errors.AsType[interface {
		error
		Hint() string
	}](err)
	if want := "qnet run --allow-path " + place + " " + r.own + "/vm.toml"; !ok || !strings.Contains(hint.Hint(), want) {
		r.Errorf("%s: the hint of %q lacks %s", what, err, want)
	}
}

// refuses checks that all that looks at a profile's files refuses it, and changes nothing.
func (r reaching) refuses(what, key, place string, p *profiles.Profile) {
	r.Helper()
	f, err := Open(r.Context(), p, r.o)
	if f != nil {
		r.Errorf("%s: it is opened", what)
		f.Close()
		f.Release()
	}
	r.outside(what, key, place, err)
	r.outside(what+", Refusal", key, place, Refusal(p, r.o))
	r.outside(what+", MayReach", key, place, MayReach(p, r.o))
	r.outside(what+", BadFiles", key, place, BadFiles(p, r.o))
	_, err = Standing(p, r.o)
	r.outside(what+", Standing", key, place, err)
	_, err = PlanDisks(p, r.o)
	r.outside(what+", PlanDisks", key, place, err)
	if strings.HasPrefix(key, "guest.") && !strings.Contains(place, "missing") {
		_, err = PlanSeed(p, r.o, nil)
		if _, ok := errors.AsType[*reachable.Error](err); !ok {
			r.Errorf("%s, PlanSeed: %v", what, err)
		}
	}
	if _, err = EnsureImage(r.Context(), p, r.o); key == "image" {
		r.outside(what+", EnsureImage", key, place, err)
	}
	for _, made := range []string{r.o.VMs, r.o.Images, r.o.Config, r.secret + "/missing.raw"} {
		if _, err := os.Lstat(made); err == nil {
			r.Fatalf("%s: it made %s", what, made)
		}
	}
}

func testReach(t *testing.T, user *asuser.User) {
	t.Helper()
	for key, text := range allKeys() {
		t.Run(key, func(t *testing.T) {
			r := newReaching(t, user)
			open, err := os.Open(r.secret + "/file")
			if err != nil {
				t.Fatal(err)
			}
			defer open.Close()
			for path, place := range r.paths(key, open) {
				p := r.load(fmt.Sprintf(text, path))
				r.refuses(path, key, place, p)
				p.Allowed = []string{r.dir + "/elsewhere"}
				r.refuses(path+", another folder is allowed", key, place, p)
				for _, dir := range []string{filepath.Dir(place), place, "/", r.dir + "/own/up"} {
					if !strings.HasPrefix(place, r.dir) && strings.HasPrefix(dir, r.dir) {
						continue
					}
					p.Allowed = []string{dir}
					if err := MayReach(p, r.o); err != nil {
						t.Errorf("%s, %s is allowed: %v", path, dir, err)
					}
				}
			}
		})
	}
}

// allKeys are pathKeys and otherKeys.
func allKeys() map[string]string {
	all := map[string]string{}
	for _, list := range []map[string]string{pathKeys, otherKeys} {
		for key, text := range list {
			all[key] = text
		}
	}
	return all
}

// By no key does a profile name what is outside its folder, however the path leads there. It is
// refused before anything is opened or made.
func TestProfileStaysInItsFolder(t *testing.T) { testReach(t, nil) }

// Nor does it behind sudo.
func TestProfileStaysInItsFolderBehindSudo(t *testing.T) {
	lab.Require(t, lab.Root)
	testReach(t, &asuser.User{UID: 64001, GID: 64001, Groups: []uint32{64001}})
}

// What is in the folder, by a hard link, too, is the profile's to name, and so is what the user
// allows by the settings, and some of qnet's own.
func TestProfileReaches(t *testing.T) {
	for key, text := range allKeys() {
		r := newReaching(t, nil)
		own := map[string]string{"share.path": ".", "guest.keys": "hard.pub"}[key]
		if own == "" {
			own = "./hard"
		}
		for _, path := range []string{own, r.own + "/" + own, "../own/" + own} {
			if err := MayReach(r.load(fmt.Sprintf(text, path)), r.o); err != nil {
				t.Errorf("%s = %s: %v", key, path, err)
			}
		}
		out := r.load(fmt.Sprintf(text, r.secret+"/file"))
		if err := os.Mkdir(r.o.Config, 0o700); err != nil {
			t.Fatal(err)
		}
		settings := r.o.Config + "/allow-paths"
		for lines, want := range map[string]string{
			"# folders\n\n  " + r.secret + "  \r\n": "", r.secret + "/file": "", "/nowhere\n" + r.dir: "", r.own: "outside", "": "outside",
			"/nowhere\n~/x\nsecret": "allow-paths:2: got \"~/x\", allowed: ", strings.Repeat("#", 70000): "allowed: less",
		} {
			if err := os.WriteFile(settings, []byte(lines), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := MayReach(out, r.o); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s, settings %.40q: %v, want %q", key, lines, err, want)
			}
		}
	}
}

// The cache of images may be named for reading, and the VM's own files as disks. Another VM's files
// may not: its keys and what its guest wrote are there. Public keys of the user's home let in.
func TestProfileReachesWhatIsQnets(t *testing.T) {
	r := newReaching(t, nil)
	home := r.dir + "/home"
	if err := os.MkdirAll(home+"/.ssh", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"id_ed25519", "id_ed25519.pub"} {
		if err := os.WriteFile(home+"/.ssh/"+name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.o.Getenv = func(name string) string { return map[string]string{"HOME": home}[name] }
	image, mine, other := r.o.Images+"/blobs/1.qcow2", r.o.VMs+"/vm/disk.qcow2", r.o.VMs+"/other/disk.qcow2"
	for _, c := range []struct {
		key, path string
		ok        bool
	}{
		{"image", image, true},
		{"disk.base", image, true},
		{"boot.kernel", image, true},
		{"disk.file, a CD-ROM", image, true},
		{"disk.file, readonly", image, true},
		{"disk.file, snapshot", image, true},
		{"disk.file", image, false},
		{"disk.file, created", image, false},
		{"share.path", r.o.Images, false},
		{"guest.user_data", image, false},
		{"disk.file", mine, true},
		{"disk.base", mine, true},
		{"share.path", r.o.VMs + "/vm", false},
		{"share.path", r.o.VMs, false},
		{"guest.user_data", mine, false},
		{"disk.file", other, false},
		{"disk.base", other, false},
		{"disk.file, readonly", other, false},
		{"guest.user_data", other, false},
		{"guest.keys", home + "/.ssh/id_ed25519.pub", true},
		{"guest.keys", home + "/.ssh/id_ed25519", false},
		{"guest.user_data", home + "/.ssh/id_ed25519.pub", false},
	} {
		if err := MayReach(r.load(fmt.Sprintf(allKeys()[c.key], c.path)), r.o); (err == nil) != c.ok {
			t.Errorf("%s = %s: %v, want allowed: %v", c.key, c.path, err, c.ok)
		}
	}
}

// All that is outside is said at once, and one command allows it.
func TestAllThatIsOutside(t *testing.T) {
	r := newReaching(t, nil)
	if err := errors.Join(os.Mkdir(r.dir+"/it's\x1b[31m", 0o755), os.Symlink("../it's\x1b[31m", r.own+"/odd")); err != nil {
		t.Fatal(err)
	}
	p := r.load("[boot]\nkernel = \"../secret/file\"\ninitrd = \"link\"\n[[share]]\npath = \"odd\"\nmount = \"/src\"\n[[disk]]\nfile = \"own\"\nformat = \"raw\"")
	err := MayReach(p, r.o)
	all, ok := errors.AsType[reachable.Refusal](err)
	if !ok || len(all) != 3 || strings.Contains(err.Error(), "\x1b") || strings.Contains(all.Hint(), "\x1b") {
		t.Fatalf("got %q", err)
	}
	if want := "qnet run --allow-path " + r.secret + "/file --allow-path $'" + r.dir + `/it\'s\x1b[31m' ` + r.own + "/vm.toml; a line with the path in " + r.o.Config + "/allow-paths "; !strings.Contains(all.Hint(), want) {
		t.Errorf("got  %s\nwant %s", all.Hint(), want)
	}
}

// While a file of the profile's folder changes places with a link that leads out, no open gives
// what is outside: its place is asked of the descriptor.
func TestSwappedOutOfItsFolder(t *testing.T) {
	r := newReaching(t, nil)
	p := r.load("[[disk]]\nfile = \"disk\"\nformat = \"raw\"\nreadonly = true")
	if err := errors.Join(os.WriteFile(r.own+"/a", []byte("own"), 0o600), os.WriteFile(r.secret+"/file", []byte("secret"), 0o600), os.Link(r.own+"/a", r.own+"/disk")); err != nil {
		t.Fatal(err)
	}
	stop := lab.Meanwhile(func(i int) {
		fresh := r.own + "/fresh"
		os.Remove(fresh)
		if i%2 == 0 {
			os.Symlink("../secret/file", fresh)
		} else {
			os.Link(r.own+"/a", fresh)
		}
		os.Rename(fresh, r.own+"/disk")
	})
	f := &Files{o: r.o, infos: map[*os.File]fs.FileInfo{}}
	opened, refused := 0, 0
	for range 2000 {
		if f.mayReach(p) != nil {
			continue // as it is before all that is opened; the rest is what came in between
		}
		file, err := f.openNamed("disk", "disk[0].file", p.Disks[0].File, os.O_RDONLY)
		if err != nil {
			refused++
			continue
		}
		opened++
		text := make([]byte, 10)
		if n, _ := unix.Pread(int(file.Fd()), text, 0); string(text[:n]) != "own" {
			t.Fatalf("it opened %q", text[:n])
		}
		f.Close()
		f.infos = map[*os.File]fs.FileInfo{}
	}
	stop()
	t.Logf("%d opened, %d refused by their descriptor", opened, refused)
	if opened < 20 || refused < 5 {
		t.Errorf("the links took no part: %d opened, %d refused", opened, refused)
	}
}
