package profiles

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What a user often writes wrong gets an answer with the line, the key, what was got and
// how it is written rightly.
func TestMistakesGetTheRightSpelling(t *testing.T) {
	for text, want := range map[string]string{
		`memory = 2048`:          `vm.toml:1: memory: got 2048, allowed: a string: a whole number and MiB, GiB or TiB, such as 1GiB; write memory = "2048MiB"`,
		"name = \"web":           `vm.toml:1: name: got "name = \"web", whose string has no end; write name = "web"`,
		"name = \"web”":          `write name = "web"`,
		"name = 'web\"":          `write name = 'web'`,
		"[[disk]]\nfile = \"a\"": `disk[0].format: missing: image format; never guessed, because a guest could change the guess; allowed: raw, qcow2`,
		"[[disk]]":               `disk[0].file: missing: image file, relative to the profile; only a disk with base needs none`,
		`memory = 2`:             `write memory = "2GiB"`,
		`memory = 2147483648`:    `write memory = "2048MiB"`,
		`memory = "2G"`:          `memory: got "2G", allowed: a whole number and MiB, GiB or TiB, such as 1GiB; write memory = "2GiB"`,
		`memory = "2GB"`:         `write memory = "2GiB"`,
		`memory = "2 GiB"`:       `write memory = "2GiB"`,
		`memory = "2048"`:        `write memory = "2048MiB"`,
		`memory = "2048mb"`:      `write memory = "2048MiB"`,
		`memory = "1.5GiB"`:      `write memory = "1536MiB"`,
		`memory = "524288KiB"`:   `write memory = "512MiB"`,
		`memory = ["1GiB"]`:      `got an array, allowed: a string: a whole number and MiB, GiB or TiB, such as 1GiB; write memory = "1GiB"`,
		`cpus = "2"`:             `cpus: got the string "2", allowed: a whole number, 1 to 1024; write cpus = 2`,
		`cpus = 2.0`:             `cpus: got 2.0, allowed: a whole number, 1 to 1024; write cpus = 2`,
		`cpus = 1.5`:             `cpus: got 1.5, allowed: a whole number, 1 to 1024`,
		`accel = true`:           `accel: got true, allowed: a string: auto, kvm, tcg`,
		`accel = "KVM"`:          `write accel = "kvm"`,
		`name = "Web_1"`:         `write name = "web-1"`,
		`name = "web.lan"`:       `write name = "web-lan"`,
		`machine = "Q35"`:        `write machine = "q35"`,
		`name = "LOCALHOST"`:     "(lower case, digits and -)",

		"[[disk]]\nfile = \"a\"\nformat = \"raw\"\nsnapshot = \"true\"": `vm.toml:4: disk[0].snapshot: got the string "true", allowed: true or false; write snapshot = true`,
		"[[disk]]\nfile = \"a\"\nformat = \"raw\"\nreadonly = \"no\"":   `write readonly = false`,
		"[[disk]]\nfile = \"a\"\nformat = \"raw\"\nreadonly = 1":        `write readonly = true`,
		"[[disk]]\nfile = \"a\"\nformat = \"QCOW2\"":                    `write format = "qcow2"`,
		"[[disk]]\nfile = \"a\"\nformat = \"img\"":                      `write format = "raw"`,
		"[[nic]]\nmode = \"bridged\"":                                   `write mode = "bridge"`,
		"[[nic]]\nmode = \"hostonly\"":                                  `write mode = "host-only"`,
		"[[nic]]\nmode = \"host_only\"":                                 `write mode = "host-only"`,
		"[[nic]]\nmode = \"NAT\"":                                       `write mode = "nat"`,
		"[[nic]]\nmac = \"52-54-00-12-34-56\"":                          `write mac = "52:54:00:12:34:56"`,
		"[[nic]]\nmac = \"5254.0012.3456\"":                             `write mac = "52:54:00:12:34:56"`,
		"[[nic]]\n[network.nat]\nmtu = \"9000\"":                        `vm.toml:3: network.nat.mtu: got the string "9000", allowed: a whole number, 576 to 65521; write mtu = 9000`,
		"[[nic]]\n[network]\nsubnet = \"10.1.0.0/24\"":                  `network.subnet: got the string "10.1.0.0/24", allowed: tables: [network.NAME]; subnet belongs in one of them, such as [network.nat]`,
	} {
		if _, err := decode(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngot  %v\nwant ...%s", text, err, want)
		}
	}
}

// The name of a VM in place of its profile's is answered with the profile's.
func TestAVMsNameIsNoProfile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web")
	if err := os.WriteFile(path+".toml", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.HasSuffix(err.Error(), "no such file or directory; did you mean "+path+".toml?") {
		t.Error(err)
	}
	if _, err := Load(path + "x"); err == nil || strings.Contains(err.Error(), "did you mean") {
		t.Error(err)
	}
}

// An unknown key comes with the one that was meant, where that can be told.
func TestUnknownKeys(t *testing.T) {
	for text, want := range map[string]string{
		`memroy = "1GiB"`:                             "did you mean memory?",
		`Memory = "1GiB"`:                             "did you mean memory?",
		`cpu_cores = 2`:                               "did you mean cpus?",
		`ram = "1GiB"`:                                "did you mean memory?",
		`vcpu = 2`:                                    "did you mean cpus?",
		`disk_size = "20G"`:                           "did you mean size?",
		"[[disk]]\nmount = \"/src\"":                  "mount belongs in [[share]]",
		`cdrom = "a.iso"`:                             `did you mean [[disk]] with file and type = "cdrom"?`,
		`net = "nat"`:                                 "did you mean [[nic]]?",
		`mode = "nat"`:                                "mode belongs in [[nic]]",
		`kernel = "k"`:                                "kernel belongs in [boot]",
		"[[nic]]\nmemory = \"1GiB\"":                  "vm.toml:2: nic[0].memory: unknown key; allowed: mode, network, address, address6, mac, guard, host, lan, egress, isolated, ports, model; memory belongs at the top, before the first table",
		"[[nic]]\nip = \"10.0.0.1\"":                  "did you mean address?",
		"[[disk]]\npath = \"a\"":                      "did you mean file?",
		"[[disk]]\nread_only = true":                  "did you mean readonly?",
		"[boot]\nkernel = \"k\"\nappend = \"quiet\"":  "did you mean cmdline?",
		"[[nic]]\n[network.nat]\ncidr = \"10.0.0.0\"": "did you mean subnet?",
		"[vm]\nname = \"web\"":                        "vm.toml:1: vm: unknown key",
		"# a\n[[nics]]\nmode = \"nat\"":               "vm.toml:2: nics: unknown key",
		`qemu_args = ["-x"]`:                          "behind -- of qnet run",
	} {
		if _, err := decode(text); err == nil || !strings.Contains(err.Error(), "unknown key") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngot  %v\nwant ...%s", text, err, want)
		}
	}
	if _, err := decode("colour = 1"); err == nil || !strings.HasSuffix(err.Error(), "network") {
		t.Errorf("a guess without a reason: %v", err)
	}
}

// What editors and other languages write in place of TOML is named, with the line, the
// character and what to write.
func TestTextsThatAreAlmostTOML(t *testing.T) {
	for text, want := range map[string]string{
		"memory = “256MiB”":                  `vm.toml:1: memory: got “ (U+201C), a typographic quotation mark; write memory = "256MiB"`,
		"memory = ‘256MiB’":                  `got ‘ (U+2018), a typographic quotation mark; write memory = '256MiB'`,
		"# a\n[[disk]]\nfile = „a”":          `vm.toml:3: file: got „ (U+201E), a typographic quotation mark; write file = "a"`,
		"name\u00a0= \"web\"":                `got U+00A0, a space that is not TOML's, such as a non-breaking one; write name = "web"`,
		"\u200bname = \"web\"":               `got U+200B, a character that an editor does not show; write name = "web"`,
		"cpus = 2\u2028":                     "U+2028",
		"name ＝ \"web\"":                     `write name = "web"`,
		"# it’s “fine”\nname = web # “here”": `vm.toml:2: name: got "name = web # “here”", which is not TOML; write name = "web"`,
		"[[nic]]\nmode = nat":                `vm.toml:2: mode: got "mode = nat", which is not TOML; write mode = "nat"`,
		"memory = 2GiB":                      `write memory = "2GiB"`,
		"[[nic]]\nmac = 52:54:00:12:34:56":   `write mac = "52:54:00:12:34:56"`,
		"name: \"web\"":                      `write name = "web"`,
		"name: web":                          `write name = "web"`,
		"cpus 2":                             `write cpus = 2`,
		"cpus = 02":                          `write cpus = 2`,
		"name = \"web\" cpus = 2":            "a line sets one key",
		"; comment":                          "a comment begins with #",
		"{\"name\": \"web\"}":                "not JSON",
		"<domain>":                           "not XML",
		"cpus = 2;":                          `write cpus = 2`,
		"cpus = 2,":                          `write cpus = 2`,
		"[[disk]]\nsnapshot = True":          `write snapshot = true`,
		"[[disk]]\nsnapshot = yes":           `write snapshot = true`,
		"[[disk]]\nfile = disk.qcow2":        `write file = "disk.qcow2"`,
		"[[disk]]\nfile = \"a\\disk\"":       "write the text in '...'",
		"cpus = 1\rmemory = \"1GiB\"\r":      "vm.toml:1: the line ends with CR (U+000D) alone",
		"cpus = 1\n# \x00":                   "vm.toml:2: not text (UTF-8): got the byte 0x00",
		"cpus = 1\nname = \"\xe4\"":          "vm.toml:2: not text (UTF-8): got the byte 0xe4",
		"\xff\xfen\x00a\x00":                 "it is UTF-16, as PowerShell's >",
		"\xfe\xff\x00n\x00a":                 "it is UTF-16",
		"n\x00a\x00m\x00e\x00":               "it is UTF-16",
	} {
		if _, err := decode(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q\ngot  %v\nwant ...%s", text, err, want)
		}
	}
}

// A byte order mark, CR LF, tabs and what stands in strings and comments are taken.
func TestTextsThatAreTOML(t *testing.T) {
	for _, text := range []string{
		"\ufeffname = \"web\"", "\ufeff", "name = \"web\"\r\n[[nic]]\r\nmode = \"user\"\r\n", "\tname\t=\t\"web\"\t", "# “it’s\u00a0fine” – so\nname = \"web\"",
	} {
		if _, err := decode(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	p, err := decode("[[disk]]\nfile = \"“My\u00a0disk”\"\nformat = \"raw\"")
	if err != nil || filepath.Base(p.Disks[0].File) != "“My\u00a0disk”" {
		t.Errorf("a file's name changes: %+v, %v", p, err)
	}
}

// A VM has no name that means another machine. The schema says the same.
func TestReservedNames(t *testing.T) {
	for name, want := range map[string]string{"host": "names the host itself", "localhost": "RFC 6761", "wpad": "proxy", "qnet": "domain"} {
		if _, err := decode(`name = "` + name + `"`); err == nil || !strings.Contains(err.Error(), "vm.toml:1: name: got") || !strings.Contains(err.Error(), want) {
			t.Errorf("name = %q: %v", name, err)
		}
		if _, err := Decode(strings.NewReader(""), "/x/"+name+".toml"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s.toml: %v", name, err)
		}
	}
	for name, free := range map[string]bool{"web": true, "test": true, "gateway": true, "hosts": true, "42": false, "0x7f": false, "0xbeeg": true, "a1": true} {
		if (Reserved(name) == "") != free {
			t.Errorf("%s: %q", name, Reserved(name))
		}
	}
	b, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Properties struct {
			Name struct{ Not struct{ Enum []string } }
		}
	}
	if err := json.Unmarshal(b, &s); err != nil || !slices.Contains(s.Properties.Name.Not.Enum, "localhost") {
		t.Errorf("the schema: %+v, %v", s, err)
	}
}

// Of what shells expand, a profile knows the user's own home.
func TestHomeInPaths(t *testing.T) {
	disk := func(home, file string) (*Profile, error) {
		return Reader{Home: home}.Decode(strings.NewReader("[[disk]]\nfile = \""+file+"\"\nformat = \"raw\"\n[boot]\nkernel = \"~/k\"\n"), "/p/vm.toml")
	}
	for file, want := range map[string]string{"~/vms/a": "/home/u/vms/a", "~": "/home/u", "./~a": "/p/~a", "a~": "/p/a~", "../a": "/a", "/a": "/a"} {
		if p, err := disk("/home/u", file); err != nil || p.Disks[0].File != want || p.Boot.Kernel != "/home/u/k" {
			t.Errorf("%s: %+v, %v", file, p, err)
		}
	}
	for file, want := range map[string]string{"~bob/a": "~USER is not expanded", "$HOME/a": "write ~/", "${X}": "variables", "https://x/a": "download it first"} {
		if _, err := disk("/home/u", file); err == nil || !strings.Contains(err.Error(), "vm.toml:2: disk[0].file: got \""+file) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", file, err)
		}
	}
	if _, err := disk("", "a"); err == nil || !strings.Contains(err.Error(), "vm.toml:5: boot.kernel: got \"~/k\", but your home is not known") {
		t.Errorf("without a home: %v", err)
	}
}

// Only a regular file is a profile; nothing else is waited for.
func TestNoRegularFile(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(dir+"/fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for path, want := range map[string]string{
			dir + "/fifo": "no regular file", dir: "it is a directory", "/dev/zero": "no regular file", "-": "standard input", dir + "/none": "no such file",
		} {
			_, err := Load(path)
			var bad Errors
			if err == nil || errors.As(err, &bad) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: %v", path, err)
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("a FIFO is waited for")
	}
	if err := os.WriteFile(dir+"/vm.toml", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := Load(dir + "/vm.toml"); err != nil || p.Name != "vm" {
		t.Errorf("an empty file: %+v, %v", p, err)
	}
}

// What is wrong in an array has no key to write, and a locale no spelling to guess.
func TestNoGuess(t *testing.T) {
	_, err := Decode(strings.NewReader("[guest]\npackages = [\"a b\"]\nlocale = \"x y\"\n"), "/p/vm.toml")
	if err == nil || strings.Contains(err.Error(), "; write") {
		t.Errorf("got %v", err)
	}
}
