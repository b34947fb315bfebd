package firmware

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/qemu/program"
)

// put writes a file below dir and returns its path.
func put(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// describe writes a descriptor of firmware whose files exist, with some words replaced.
func describe(t *testing.T, dir, name string, changes ...string) {
	t.Helper()
	files := filepath.Join(dir, "files")
	text := `{"description": "x", "interface-types": ["uefi"], "tags": [],
		"mapping": {"device": "flash", "executable": {"filename": "CODE", "format": "raw"}, "nvram-template": {"filename": "VARS", "format": "raw"}},
		"targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}], "features": ["acpi-s3"]}`
	text = strings.NewReplacer("CODE", put(t, files, name+".code", "code"), "VARS", put(t, files, name+".vars", "vars")).Replace(text)
	text = strings.NewReplacer(changes...).Replace(text)
	put(t, dir, name, text)
}

const enrolled = `["acpi-s3", "secure-boot", "enrolled-keys", "requires-smm"]`

func TestFindChooses(t *testing.T) {
	user, host := t.TempDir(), t.TempDir()
	dirs := []string{user, filepath.Join(host, "none"), host}
	describe(t, host, "10-other-arch.json", "x86_64", "aarch64")
	describe(t, host, "11-memory.json", `"flash"`, `"memory"`)
	describe(t, host, "12-stateless.json", `"flash"`, `"flash", "mode": "stateless"`)
	describe(t, host, "13-bios.json", `"uefi"`, `"bios"`)
	describe(t, host, "14-pc.json", "pc-q35-*", "pc-i440fx-*")
	describe(t, host, "15-format.json", `"format": "raw"}, "nv`, `"format": "vmdk"}, "nv`)
	describe(t, host, "20-keys.json", `["acpi-s3"]`, enrolled)
	describe(t, host, "21-smm.json", `["acpi-s3"]`, `["secure-boot", "requires-smm"]`)
	describe(t, host, "30-plain.json")
	describe(t, host, "31-later.json")
	put(t, host, "00-not.txt", "{")
	for _, c := range []struct {
		want Want
		name string
		smm  bool
	}{
		{Want{Machine: "q35"}, "30-plain.json", false},
		{Want{Machine: "pc-q35-9.1"}, "30-plain.json", false},
		{Want{Machine: "pc"}, "14-pc.json", false},
		{Want{Machine: "q35", Secure: true}, "20-keys.json", true},
	} {
		got, err := Find(dirs, c.want)
		if err != nil || filepath.Base(got.Descriptor) != c.name || got.SMM != c.smm || !strings.HasSuffix(got.Code.Path, c.name+".code") || !strings.HasSuffix(got.Vars.Path, c.name+".vars") {
			t.Errorf("%+v: got %+v, %v, want %s", c.want, got, err, c.name)
		}
	}
	// A file of the same name in an earlier directory takes the place of a later one.
	describe(t, user, "31-later.json", "CODE", "CODE")
	put(t, user, "30-plain.json", "")
	if got, err := Find(dirs, Want{Machine: "q35"}); err != nil || got.Descriptor != filepath.Join(user, "31-later.json") {
		t.Errorf("with the user's: got %+v, %v", got, err)
	}
}

func TestFindRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, want := range []Want{{Machine: "q35"}, {Machine: "q35", Secure: true}} {
		_, err := Find([]string{dir}, want)
		var lack *program.Lack
		if !errors.As(err, &lack) || !strings.Contains(lack.Hint(), "apt install ovmf") || !strings.Contains(lack.Hint(), "edk2-ovmf") || strings.Contains(err.Error(), "secure boot") != want.Secure {
			t.Errorf("%+v: got %v", want, err)
		}
	}
	// What is broken is named, and hides nothing that is sound.
	put(t, dir, "10-broken.json", "{")
	put(t, dir, "11-long.json", strings.Repeat(" ", maxDescriptor+1))
	describe(t, dir, "12-gone.json")
	os.Remove(filepath.Join(dir, "files/12-gone.json.vars"))
	_, err := Find([]string{dir}, Want{Machine: "q35"})
	for _, part := range []string{"10-broken.json: unexpected end of JSON", "11-long.json is longer", "12-gone.json: stat ", "no such file"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("got %v, want %q", err, part)
		}
	}
	if !errors.Is(err, program.ErrLack) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	describe(t, dir, "20-sound.json")
	if got, err := Find([]string{dir}, Want{Machine: "q35"}); err != nil || filepath.Base(got.Descriptor) != "20-sound.json" {
		t.Errorf("got %+v, %v", got, err)
	}
	// On microvm there is no flash.
	if _, err := Find([]string{dir}, Want{Machine: "microvm"}); err == nil || !strings.Contains(err.Error(), `"microvm"`) {
		t.Errorf("got %v", err)
	}
}

func TestDirs(t *testing.T) {
	if got := Dirs("/home/u/.config"); len(got) != 3 || got[0] != "/home/u/.config/qemu/firmware" || got[1] != "/etc/qemu/firmware" {
		t.Errorf("got %q", got)
	}
	if got := Dirs(""); len(got) != 2 {
		t.Errorf("got %q", got)
	}
}

// The host's own firmware: found, and its variables are made, kept, and checked.
func TestVarsOfInstalledFirmware(t *testing.T) {
	lab.Require(t, lab.OVMF)
	f, err := Find(Dirs(""), Want{Machine: "q35"})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "vars.fd")
	put(t, filepath.Dir(path), "vars.fd.new", "of a run that was killed")
	if err := CheckVars(path, f); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there are none yet: got %v", err)
	}
	vars, err := OpenVars(path, f)
	if err != nil {
		t.Fatal(err)
	}
	defer vars.Close()
	if err := CheckVars(path, f); err != nil {
		t.Error(err)
	}
	if info, err := vars.Stat(); err != nil || info.Mode() != 0o600 || info.Size() < 100<<10 {
		t.Errorf("got %v, %v", info, err)
	}
	if _, err := os.Stat(path + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a temporary file is left: %v", err)
	}
	const late = 4000 // in the store of variables
	if _, err := vars.WriteAt([]byte("boot entry"), late); err != nil {
		t.Fatal(err)
	}
	again, err := OpenVars(path, f)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	b := make([]byte, 10)
	if _, err := again.ReadAt(b, late); err != nil || string(b) != "boot entry" {
		t.Errorf("the variables are not kept: %q, %v", b, err)
	}
	sound, _ := os.ReadFile(path)
	for name, bytes := range map[string][]byte{
		"it has 1000 bytes":    sound[:1000],
		"it has 0 bytes":       {},
		"it does not begin as": append([]byte("other text here"), sound[15:]...),
	} {
		os.WriteFile(path, bytes, 0o600)
		_, err := OpenVars(path, f)
		var bad *VarsError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), name) || !strings.Contains(bad.Hint(), "remove it") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	os.Remove(path)
	os.Symlink(f.Code.Path, path)
	if _, err := OpenVars(path, f); err == nil || !strings.Contains(err.Error(), "open UEFI variables") {
		t.Errorf("a link: got %v", err)
	}
	if _, err := OpenVars(filepath.Join(path, "no/dir"), f); err == nil {
		t.Error("without a directory: no error")
	}
	f.Vars.Path += ".gone"
	if _, err := OpenVars(path, f); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a template: got %v", err)
	}
}

// Fedora's variables are qcow2 images.
func TestVarsInImage(t *testing.T) {
	dir := t.TempDir()
	image := func(name string, size byte, backing byte) string {
		head := make([]byte, 512)
		copy(head, "QFI\xfb\x00\x00\x00\x03")
		head[15], head[23], head[31] = backing, 16, size
		return put(t, dir, name, string(head))
	}
	f := Firmware{Vars: File{Path: image("template", 84, 0), Format: "qcow2"}}
	for want, path := range map[string]string{
		"":                     image("sound", 84, 0),
		"it holds 85 bytes":    image("other", 85, 0),
		"needs a backing file": image("backed", 84, 104),
		"it is no qcow2 image": put(t, dir, "raw", strings.Repeat("x", 512)),
	} {
		vars, err := OpenVars(path, f)
		if want == "" && err == nil {
			vars.Close()
			continue
		}
		var bad *VarsError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v", want, err)
		}
	}
}
