package warm

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/disks"
	"github.com/qnet-vm/qnet/internal/firstboot"
	"github.com/qnet-vm/qnet/internal/hardware"
	"github.com/qnet-vm/qnet/internal/images"
	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/saved"
	"github.com/qnet-vm/qnet/internal/sshkey"
	"github.com/qnet-vm/qnet/internal/vmdir"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu/qcow2"
)

// profile is one whose VMs can begin from a booted guest.
func profile(t *testing.T) (*profiles.Profile, hardware.Options) {
	t.Helper()
	dir := t.TempDir()
	kernel := filepath.Join(dir, "vmlinuz")
	if err := os.WriteFile(kernel, []byte("k"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &profiles.Profile{
		Name: "web", Path: filepath.Join(dir, "web.toml"), Memory: 1 << 30, CPUs: 1, Accel: profiles.AccelTCG, Machine: "q35",
		Image: profiles.Image{Name: "debian-12"}, Boot: profiles.Boot{Kernel: kernel},
		Guest: &profiles.Guest{User: "me", Hostname: "webby", Keys: []profiles.Key{}},
		NICs:  []profiles.NIC{{Mode: profiles.User, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}}},
	}
	return p, hardware.Options{VMs: filepath.Join(dir, "vms"), Images: filepath.Join(dir, "images"), Config: filepath.Join(dir, "config")}
}

// The key stays for what is each VM's own, and changes with all else.
func TestKey(t *testing.T) {
	p, o := profile(t)
	image := images.Local{Digest: "sha256:aa"}
	key := func(p *profiles.Profile, extra ...string) string {
		t.Helper()
		key, err := Key(p, image, o, p.Boot.Kernel, extra)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	first := key(p)
	if !profiles.ValidName(NameOf(first)) {
		t.Errorf("%q is no name of a VM", NameOf(first))
	}
	own := Profile(p, "other")
	own.Guest.Hostname, own.NICs[0].MAC = "other", net.HardwareAddr{2, 0, 0, 0, 0, 9}
	if key(own) != first {
		t.Error("another name, host name or MAC has another key")
	}
	for what, change := range map[string]func(*profiles.Profile){
		"memory":  func(p *profiles.Profile) { p.Memory *= 2 },
		"size":    func(p *profiles.Profile) { p.Size = 20 << 30 },
		"account": func(p *profiles.Profile) { p.Guest.User = "you" },
		"command": func(p *profiles.Profile) { p.Guest.Run = []string{"true"} },
		"NIC":     func(p *profiles.Profile) { p.NICs = append(p.NICs, profiles.NIC{Mode: profiles.User}) },
		"kernel":  func(p *profiles.Profile) { p.Boot.Kernel, _ = os.Executable() },
	} {
		other := Profile(p, p.Name)
		change(other)
		if key(other) == first {
			t.Errorf("another %s has the same key", what)
		}
	}
	if key(p, "-device", "usb-kbd") == first {
		t.Error("further QEMU arguments have the same key")
	}
	image.Digest = "sha256:bb"
	if key(p) == first {
		t.Error("another image has the same key")
	}
}

// Guests that booted by other firmware have other keys.
func TestKeyOfFirmware(t *testing.T) {
	lab.Require(t, lab.OVMF)
	p, o := profile(t)
	seen := map[string]profiles.Firmware{}
	for _, firmware := range []profiles.Firmware{profiles.BIOS, profiles.UEFI, profiles.UEFISecure} {
		p.Boot.Firmware = firmware
		key, err := Key(p, images.Local{Digest: "sha256:aa"}, o, p.Boot.Kernel, nil)
		if other, known := seen[key]; err != nil || known {
			t.Errorf("%q has the key of %q, %v", firmware, other, err)
		}
		seen[key] = firmware
	}
}

// What several guests cannot share is refused with the reason.
func TestCannot(t *testing.T) {
	for _, firmware := range []profiles.Firmware{"", profiles.BIOS, profiles.UEFI, profiles.UEFISecure} {
		p, _ := profile(t)
		if p.Boot.Firmware = firmware; Cannot(p) != "" {
			t.Errorf("firmware %q: got %q", firmware, Cannot(p))
		}
	}
	for want, change := range map[string]func(*profiles.Profile){
		"no image":       func(p *profiles.Profile) { p.Image = profiles.Image{} },
		"Ignition":       func(p *profiles.Profile) { p.Guest.UserData = "/p/x.ign" },
		"shares folders": func(p *profiles.Profile) { p.Shares = []profiles.Share{{}} },
		"TPM":            func(p *profiles.Profile) { p.TPM = true },
		`"/d"`:           func(p *profiles.Profile) { p.Disks = []profiles.Disk{{File: "/d"}} },
	} {
		p, _ := profile(t)
		change(p)
		if got := Cannot(p); !strings.Contains(got, want) {
			t.Errorf("got %q, want %q in it", got, want)
		}
	}
}

// bootedAs makes what a VM leaves that was booted and suspended.
func bootedAs(t *testing.T, c Cache, p *profiles.Profile, key string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Join(c.Images, "locks"), 0o700), c.Begin(p, key)); err != nil {
		t.Fatal(err)
	}
	dir, err := vmdir.New(c.Boots(), NameOf(key))
	if err == nil {
		err = dir.Make()
	}
	if err != nil {
		t.Fatal(err)
	}
	disk, err := os.Create(dir.File(diskFile))
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	note, _ := json.Marshal(disks.Pin{Path: "/i.qcow2", Format: disks.Qcow2, Digest: "sha256:aa"})
	place := saved.Place{Dir: dir}
	_, saveErr := place.Save(t.Context(), saved.Record{}, nil, func(_ context.Context, f *os.File) error {
		_, err := f.WriteString("memory")
		return err
	})
	err = errors.Join(qcow2.Make(disk, 1<<20, note), saveErr, os.Mkdir(dir.File("hostkeys"), 0o700),
		dir.Save(vmdir.Record{Bases: []vmdir.Base{{Overlay: diskFile, Path: "/i.qcow2", Digest: "sha256:aa"}}}))
	if err != nil {
		t.Fatal(err)
	}
}

// A guest is there when it was kept, not before; it stays while a VM rests on it or runs, and
// goes then.
func TestCache(t *testing.T) {
	p, o := profile(t)
	c := Cache{Images: o.Images}
	p.Memory = 1 << 20
	bootedAs(t, c, p, "0123456789abcdef")
	if _, err := c.Find("0123456789abcdef"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before it is kept: %v", err)
	}
	if err := c.Keep("0123456789abcdef", Record{Image: "debian-12"}); err != nil {
		t.Fatal(err)
	}
	s, err := c.Find("0123456789abcdef")
	if err != nil || s.ImageDigest != "sha256:aa" || s.Memory != 6 || !strings.HasPrefix(s.Digest, "sha256:") || s.Made.IsZero() {
		t.Errorf("got %+v, %v", s, err)
	}
	if _, err := os.Stat(s.Place.Dir.File("hostkeys")); err == nil {
		t.Error("its host keys are kept")
	}
	disk, err := os.Open(s.Base().Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := images.Hold(disk); err != nil {
		t.Fatal(err)
	}
	nobody := func(string) []string { return nil }
	if _, held := errors.AsType[*images.HeldError](c.Remove(s, nobody)); !held {
		t.Error("a guest that a VM has open is removed")
	}
	disk.Close()
	if gone, err := c.Prune(func(string) []string { return []string{"one"} }); len(gone) > 0 || err != nil {
		t.Errorf("with a VM: %v, %v", gone, err)
	}
	bootedAs(t, c, p, "fedcba9876543210") // and was killed then
	if gone, err := c.Prune(nobody); len(gone) != 1 || err != nil {
		t.Errorf("without a VM: %v, %v", gone, err)
	}
	for _, dir := range []string{c.kept(), c.Boots()} {
		if left, err := os.ReadDir(dir); len(left) > 0 || err != nil {
			t.Errorf("left in %s: %v, %v", dir, left, err)
		}
	}
}

// A guest whose disk another program wrote to is not used, and one that has no room is refused before it boots.
func TestUnusable(t *testing.T) {
	p, o := profile(t)
	c := Cache{Images: o.Images}
	p.Memory = 1 << 20
	bootedAs(t, c, p, "0123456789abcdef")
	if err := c.Keep("0123456789abcdef", Record{}); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(c.kept(), NameOf("0123456789abcdef"), diskFile)
	if err := os.Chtimes(disk, time.Time{}, time.Unix(1e9, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Find("0123456789abcdef"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	p.Memory = 1 << 60
	if _, full := errors.AsType[*RoomError](c.Begin(p, "fedcba9876543210")); !full {
		t.Error("a guest of 1 EiB has room")
	}
}

// The scripts are what sh(1) takes, and tell the guest each thing that is its own.
func TestScripts(t *testing.T) {
	id := Identity{
		Settings: firstboot.Settings{
			Hostname: "one", NICs: []firstboot.NIC{{MAC: "52:54:00:00:00:01", Mode: profiles.NAT, IPv6: true}, {Mode: profiles.None}, {MAC: "52:54:00:00:00:02", Mode: profiles.Private}},
			HostKeys: []sshkey.Pair{{Public: sshkey.Ed25519 + " AAAA", Private: "-----BEGIN\nkey\n-----END\n"}},
		},
		Was: "warm-0123", Now: time.Unix(1e9, 5e6), machineID: "00112233445546778899aabbccddeeff", entropy: []byte{0xab, 0xcd},
	}
	script := id.script()
	for _, want := range []string{
		"@1000000000.005", "abcd", "eth0 address 52:54:00:00:00:01", "eth2 address 52:54:00:00:00:02", "conf/eth0/disable_ipv6", "s/warm-0123/one/g",
		"echo 00112233445546778899aabbccddeeff > /etc/machine-id", "> /etc/ssh/ssh_host_ed25519_key.pub", id.Settings.InstanceID(),
	} {
		if !strings.Contains(script, want) {
			t.Errorf("it lacks %q", want)
		}
	}
	if strings.Contains(script, "eth1 ") || strings.Contains(script, "eth2/disable_ipv6") {
		t.Error("a NIC of mode none gets an address, or one without IPv6 loses it")
	}
	for name, text := range map[string]string{"identity": script, "boot": bootScript, "settle": settleScript([]string{"eth0", "eth2"}), "settle without links": settleScript(nil)} {
		cmd := exec.CommandContext(t.Context(), "sh", "-n")
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// A guest without an agent cannot be asked.
func TestNoAgent(t *testing.T) {
	if err := errors.Join(AwaitBoot(t.Context(), nil)); !errors.Is(err, errNoAgent) {
		t.Errorf("got %v", err)
	}
	if err := Name(t.Context(), nil, Identity{}); !errors.Is(err, errNoAgent) {
		t.Errorf("got %v", err)
	}
}
