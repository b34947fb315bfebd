package profiles

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

func decode(text string) (*Profile, error) { return Decode(strings.NewReader(text), "vm.toml") }

func TestDesignExample(t *testing.T) {
	p, err := decode(`
name   = "web"
memory = "2GiB"
cpus   = 2
[boot]
kernel = "vmlinuz"
[[disk]]
file     = "/images/a.qcow2"
format   = "qcow2"
snapshot = true
[[nic]]
mode    = "nat"
network = "dev"
address = "192.168.223.10"
mac     = "52:54:00:21:34:56"
[[nic]]
mode = "private"
[network.dev]
subnet = "192.168.223.0/24"
uplink = "enp2s0"
`)
	if err != nil {
		t.Fatal(err)
	}
	dir, _ := os.Getwd()
	if p.Memory != 2<<30 || p.CPUs != 2 || p.Accel != AccelAuto || p.Boot.Kernel != filepath.Join(dir, "vmlinuz") {
		t.Errorf("got %+v", p)
	}
	if d := p.Disks[0]; d.File != "/images/a.qcow2" || !d.Snapshot {
		t.Errorf("got %+v", d)
	}
	if n := p.NICs[0]; n.Address != netip.MustParseAddr("192.168.223.10") || n.MAC.String() != "52:54:00:21:34:56" || n.Model != "virtio-net-pci" {
		t.Errorf("got %+v", n)
	}
	want := map[string]Network{
		"dev":     {Name: "dev", Mode: NAT, Subnet: netip.MustParsePrefix("192.168.223.0/24"), Uplink: "enp2s0"},
		"private": {Name: "private", Mode: Private},
	}
	if !reflect.DeepEqual(p.Networks, want) {
		t.Errorf("got %+v, want %+v", p.Networks, want)
	}
}

func TestEmptyProfileHasDefaults(t *testing.T) {
	p, err := decode("")
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "vm" || p.Memory != 1<<30 || p.CPUs != 1 || len(p.NICs) != 1 || p.NICs[0].Network != "nat" {
		t.Errorf("got %+v", p)
	}
}

// Every problem of a file is reported, in the order of the file.
func TestAllProblemsAtOnce(t *testing.T) {
	_, err := decode(`NAME = "x"
memory = 512
cpus = "two"
colour = "red"
[[nic]]
mode = "natt"
[[nic]]
mac = "01:54:00:00:00:01"
[[disk]]
file = "a"
[network.unused]
subnet = "10.1.0.0/24"
`)
	var errs Errors
	if !errors.As(err, &errs) {
		t.Fatalf("got %v", err)
	}
	want := []string{
		`vm.toml:1: NAME: unknown key; allowed: name, memory,`,
		`vm.toml:2: memory: got 512, allowed: a string`,
		`vm.toml:3: cpus: got the string "two", allowed: a whole number`,
		`vm.toml:4: colour: unknown key`,
		`vm.toml:6: nic[0].mode: got "natt", allowed: private, host-only, nat, bridge, user, none`,
		`vm.toml:8: nic[1].mac: got 01:54:00:00:00:01, a multicast address`,
		`vm.toml:9: disk[0].format: missing`,
		`vm.toml:11: network.unused: no nic is on this network`,
	}
	if len(errs) != len(want) {
		t.Errorf("got %d errors, want %d:\n%v", len(errs), len(want), errs)
	}
	for i, w := range want {
		if i < len(errs) && !strings.HasPrefix(errs[i].Error(), w) {
			t.Errorf("got  %s\nwant %s...", errs[i], w)
		}
	}
}

func TestBadProfiles(t *testing.T) {
	nic := func(s string) string { return "[[nic]]\n" + s }
	for name, c := range map[string]struct{ text, want string }{
		"syntax":                {"name = \n", "vm.toml:1: "},
		"duplicate-key":         {"cpus = 1\ncpus = 2\n", "vm.toml:2: "},
		"binary":                {"\x00\x01\x02", "not text"},
		"not-utf8":              {"name = \"\xff\"", "not text"},
		"too-large":             {strings.Repeat("# comment\n", 1<<20), "larger than 256 KiB"},
		"name-of-200":           {`name = "` + strings.Repeat("a", 200) + `"`, "vm.toml:1: name: got"},
		"name-with-comma":       {`name = "a,b"`, "vm.toml:1: name: got"},
		"name-with-quote":       {`name = 'a"b'`, "vm.toml:1: name: got"},
		"name-with-newline":     {`name = "a\nb"`, "control character (U+000A)"},
		"name-with-slash":       {`name = "a/b"`, "vm.toml:1: name: got"},
		"name-empty":            {`name = ""`, "vm.toml:1: name: got"},
		"bidi":                  {"[boot]\nkernel = \"a\u202eb\"", "U+202E"},
		"memory-without-unit":   {`memory = "512"`, "memory: got"},
		"memory-small":          {`memory = "15MiB"`, "16MiB to 16TiB"},
		"memory-large":          {`memory = "17TiB"`, "16MiB to 16TiB"},
		"memory-overflows":      {`memory = "99999999999999999999TiB"`, "16MiB to 16TiB"},
		"cpus-none":             {`cpus = 0`, "1 to 1024"},
		"cpu-with-feature":      {`cpu = "max,+x"`, "cpu: got"},
		"cpu-help":              {`cpu = "help"`, "vm.toml:1: cpu: got \"help\""},
		"cpu-of-dots":           {`cpu = ".."`, "vm.toml:1: cpu: got \"..\""},
		"key-with-escape":       {"\"\\u001b[2J\" = 1", `vm.toml:1: "\x1b[2J": unknown key`},
		"boot-is-a-string":      {`boot = "k"`, "a table: [boot]"},
		"nic-is-a-table":        {"[nic]\nmode = \"nat\"", "[[nic]]"},
		"initrd-alone":          {"[boot]\ninitrd = \"i\"", "boot.kernel: missing"},
		"disk-twice":            {"[[disk]]\nfile=\"a\"\nformat=\"raw\"\n[[disk]]\nfile=\"./a\"\nformat=\"raw\"", "vm.toml:5: disk[1].file"},
		"disk-empty":            {"[[disk]]\nfile=\"\"\nformat=\"raw\"", "empty string"},
		"network-two-modes":     {nic("mode=\"nat\"\nnetwork=\"a\"\n[[nic]]\nmode=\"private\"\nnetwork=\"a\""), "vm.toml:5: nic[1].mode"},
		"network-in-user":       {nic("mode=\"user\"\nnetwork=\"a\""), "is on no network"},
		"macvtap-in-nat":        {nic("mode=\"nat\"\nnetwork=\"a\"\n[network.a]\nmacvtap=true"), `vm.toml:5: network.a.macvtap: got true, but network "a" is in mode nat; allowed in: bridge`},
		"macvtap-a-string":      {nic("mode=\"bridge\"\n[network.bridge]\nmacvtap=\"yes\""), "vm.toml:4: network.bridge.macvtap: got the string"},
		"mtu-of-bridge":         {nic("mode=\"bridge\"\n[network.bridge]\nmtu=9000"), "vm.toml:4: network.bridge.mtu: got 9000, but mode bridge has the MTU of the NIC it joins; allowed in: private, host-only, nat"},
		"mtu-of-macvtap":        {nic("mode=\"bridge\"\n[network.bridge]\nmacvtap=true\nmtu=1400"), "vm.toml:5: network.bridge.mtu: got 1400"},
		"mtu-small":             {nic("[network.nat]\nmtu=575"), "vm.toml:3: network.nat.mtu: got 575, allowed: 576 to 65521"},
		"mtu-large":             {nic("[network.nat]\nmtu=65522"), "network.nat.mtu: got 65522, allowed: 576 to 65521"},
		"mtu-zero":              {nic("[network.nat]\nmtu=0"), "allowed: 576 to 65521"},
		"mtu-a-string":          {nic("[network.nat]\nmtu=\"9000\""), "network.nat.mtu: got the string \"9000\", allowed: a whole number"},
		"mtu-broken":            {nic("[network.nat]\nmtu=1400.5"), "allowed: a whole number"},
		"network-bad-name":      {nic("mode=\"nat\"\n[network.Bad]"), `got the name "Bad"`},
		"mac-twice":             {nic("mac=\"52:54:00:00:00:01\"\n[[nic]]\nmac=\"52:54:00:00:00:01\""), "vm.toml:4: nic[1].mac"},
		"mac-short":             {nic(`mac="52:54:00"`), "nic[0].mac: got"},
		"mac-zero":              {nic(`mac="00:00:00:00:00:00"`), "no address"},
		"address-without-pin":   {nic(`address="10.0.0.5"`), "not pinned"},
		"address-in-private":    {nic("mode=\"private\"\naddress=\"10.0.0.5\""), "gives no address"},
		"address-v6":            {nic(`address="fd00::1"`), "an IPv4 address"},
		"address-outside":       {nic("address=\"10.9.0.5\"\n[network.nat]\nsubnet=\"10.1.0.0/24\""), "vm.toml:2: nic[0].address"},
		"address-gateway":       {nic("address=\"10.1.0.1\"\n[network.nat]\nsubnet=\"10.1.0.0/24\""), "without its first"},
		"address-broadcast":     {nic("address=\"10.1.0.255\"\n[network.nat]\nsubnet=\"10.1.0.0/24\""), "without its first"},
		"address-twice":         {nic("address=\"10.1.0.9\"\n[[nic]]\naddress=\"10.1.0.9\"\n[network.nat]\nsubnet=\"10.1.0.0/24\""), "nic[0] has already"},
		"subnet-public":         {nic("[network.nat]\nsubnet=\"9.9.9.0/24\""), "inside 10.0.0.0/8"},
		"subnet-host-bits":      {nic("[network.nat]\nsubnet=\"10.1.0.1/24\""), "allowed: 10.1.0.0/24"},
		"subnet-large":          {nic("[network.nat]\nsubnet=\"10.0.0.0/8\""), "/20 to /29"},
		"subnet-of-private":     {nic("mode=\"private\"\n[network.private]\nsubnet=\"10.1.0.0/24\""), "no subnet"},
		"uplink-of-private":     {nic("mode=\"private\"\n[network.private]\nuplink=\"eth0\""), "has no uplink"},
		"uplink-too-long":       {nic("[network.nat]\nuplink=\"" + strings.Repeat("a", 128) + "\""), "uplink: got"},
		"uplink-with-slash":     {nic("[network.nat]\nuplink=\"a/b\""), "allowed: a link's name or alternative name"},
		"unknown-in-array":      {nic("mod=\"nat\""), "vm.toml:2: nic[0].mod: unknown key"},
		"unknown-in-inline":     {"nic = [{mode=\"nat\"},\n {mod=\"nat\"}]", "vm.toml:2: nic[1].mod: unknown key"},
		"unknown-in-dotted":     {"boot.kernel = \"k\"\nboot.x = 1", "vm.toml:2: boot.x: unknown key"},
		"too-many-nics":         {strings.Repeat("[[nic]]\nmode=\"none\"\n", 16), "at most 15"},
		"raw-qemu-args-refused": {`qemu_args = ["-x"]`, "unknown key"},
	} {
		refuses(t, name, c.text, c.want)
	}
}

// What the keys of an everyday VM do not allow is refused with line and key.
func TestBadEverydayProfiles(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"image-empty":          {`image = ""`, "vm.toml:1: image: got an empty string"},
		"image-no-checksum":    {`image = "https://example.com/a.qcow2"`, "with its checksum behind it"},
		"image-short-checksum": {`image = "https://example.com/a.qcow2#sha256=ab"`, "64 HEX DIGITS"},
		"image-ftp":            {`image = "ftp://example.com/a.qcow2#sha256=` + strings.Repeat("a", 64) + `"`, "a URL by https or http"},
		"image-upper":          {`image = "Debian 12"`, "qnet image ls"},
		"size-alone":           {`size = "20GiB"`, "vm.toml:1: size: got \"20GiB\" without image"},
		"size-zero":            {"image = \"debian\"\nsize = \"0GiB\"", "vm.toml:2: size: got \"0GiB\", allowed: 1MiB to 64TiB"},
		"size-large":           {"image = \"debian\"\nsize = \"65TiB\"", "1MiB to 64TiB"},
		"size-a-number":        {"image = \"debian\"\nsize = 20", "size: got 20, allowed: a string"},
		"firmware-unknown":     {"[boot]\nfirmware = \"efi\"", "boot.firmware: got \"efi\", allowed: bios, uefi, uefi-secure; write firmware = \"uefi\""},
		"order-a-string":       {"[boot]\norder = \"cdrom\"", `boot.order: got the string "cdrom", allowed: an array: cdrom, disk, network; write order = ["cdrom"]`},
		"order-unknown":        {"[boot]\norder = [\"cdrom\", \"net\"]", `boot.order[1]: got "net", allowed: cdrom, disk, network`},
		"order-twice":          {"[boot]\norder = [\"disk\", \"disk\"]", "boot.order[1]: got \"disk\" twice"},
		"order-empty":          {"[boot]\norder = []", "boot.order: got an empty array"},
		"order-and-kernel":     {"[boot]\nkernel = \"k\"\norder = [\"disk\"]", "vm.toml:3: boot.order: the kernel of boot.kernel is what boots"},
		"secure-on-pc":         {"machine = \"pc\"\n[boot]\nfirmware = \"uefi-secure\"", "vm.toml:3: boot.firmware: got \"uefi-secure\" with machine \"pc\""},
		"menu-a-string":        {"[boot]\nmenu = \"yes\"", "boot.menu: got the string"},
		"user-upper":           {"[guest]\nuser = \"Me\"", "guest.user: got \"Me\""},
		"password-plain":       {"[guest]\npassword = \"secret\"", "openssl passwd -6"},
		"hostname-dots":        {"[guest]\nhostname = \"a.b\"", "guest.hostname: got"},
		"timezone-path":        {"[guest]\ntimezone = \"../../etc/passwd\"", "a name such as Europe/Berlin"},
		"packages-option":      {"[guest]\npackages = [\"-o\"]", "guest.packages[0]: got \"-o\""},
		"run-a-string":         {"[guest]\nrun = \"make\"", `write run = ["make"]`},
		"guest-unknown":        {"[guest]\nusers = [\"a\"]", "guest.users: unknown key"},
		"disk-without-file":    {"[[disk]]\nformat = \"raw\"", "disk[0].file: missing"},
		"disk-without-format":  {"[[disk]]\nfile = \"a.img\"", "disk[0].format: missing"},
		"cdrom-qcow2":          {"[[disk]]\nfile = \"a.iso\"\ntype = \"cdrom\"\nformat = \"qcow2\"", "vm.toml:4: disk[0].format: got qcow2 for a cdrom"},
		"cdrom-on-virtio":      {"[[disk]]\nfile = \"a.iso\"\ntype = \"cdrom\"\nbus = \"virtio\"", "allowed: sata, scsi, usb"},
		"cdrom-created":        {"[[disk]]\nfile = \"a.iso\"\ntype = \"cdrom\"\ncreate = true\nsize = \"1GiB\"", "never written"},
		"bus-ide":              {"[[disk]]\nfile = \"a\"\nformat = \"raw\"\nbus = \"ide\"", "allowed: virtio, scsi, nvme, sata, usb"},
		"create-without-size":  {"[[disk]]\nfile = \"a\"\ncreate = true", "disk[0].size: missing"},
		"size-of-a-file":       {"[[disk]]\nfile = \"a\"\nformat = \"raw\"\nsize = \"1GiB\"", "an image has its own"},
		"create-readonly":      {"[[disk]]\nfile = \"a\"\ncreate = true\nsize = \"1GiB\"\nreadonly = true", "leave out readonly"},
		"base-raw-overlay":     {"[[disk]]\nbase = \"a\"\nformat = \"raw\"", "an overlay is qcow2"},
		"base-format-alone":    {"[[disk]]\nfile = \"a\"\nformat = \"raw\"\nbase_format = \"raw\"", "but no base"},
		"too-many-disks":       {"image = \"debian\"\n" + manyDisks(13), "disk: got 13"},
		"share-without-mount":  {"[[share]]\npath = \".\"", "share[0].mount: missing"},
		"share-relative-mount": {"[[share]]\npath = \".\"\nmount = \"src\"", "an absolute path in the guest"},
		"share-on-root":        {"[[share]]\npath = \".\"\nmount = \"/x/..\"", "the guest's root"},
		"share-on-proc":        {"[[share]]\npath = \".\"\nmount = \"/proc/x\"", "share[0].mount: got \"/proc/x\", where the guest's kernel shows its own files; allowed: a folder that the guest does not need, such as /src"},
		"share-on-etc":         {"[[share]]\npath = \".\"\nmount = \"/etc/\"", "got \"/etc/\", without which the guest does not run"},
		"share-on-dev":         {"[[share]]\npath = \".\"\nmount = \"/x/../dev\"", "where the guest's kernel"},
		"share-twice":          {"[[share]]\npath = \".\"\nmount = \"/x\"\n[[share]]\npath = \"b\"\nmount = \"/x/\"", "vm.toml:6: share[1].mount"},
		"too-many-shares":      {strings.Repeat("[[share]]\npath = \".\"\nmount = \"/x\"\n", 9), "at most 8"},
		"display-spice":        {"[display]\ntype = \"spice\"", "allowed: none, window, vnc"},
		"watchdog-debug":       {"[devices]\nwatchdog = \"debug\"", "allowed: none, reset, poweroff, pause"},
		"tpm-a-version":        {`tpm = "2.0"`, "tpm: got the string"},
	} {
		refuses(t, name, c.text, c.want)
	}
}

// A mount that is refused is not compared with another one.
func TestBadMountsAreNotTheSame(t *testing.T) {
	_, err := decode("[[share]]\npath = \".\"\nmount = \"/\"\n[[share]]\npath = \".\"\nmount = \"a\"")
	var errs Errors
	if !errors.As(err, &errs) || len(errs) != 2 {
		t.Errorf("got %v, want one error for each mount", err)
	}
}

// refuses tests that a profile is refused with a message that has a text in it.
func refuses(t *testing.T, name, text, want string) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		_, err := decode(text)
		var errs Errors
		if !errors.As(err, &errs) || !strings.Contains(err.Error(), want) {
			t.Errorf("got  %v\nwant ...%s", err, want)
		}
	})
}

func manyDisks(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "[[disk]]\nfile=\"%d\"\nformat=\"raw\"\n", i)
	}
	return b.String()
}

// What an everyday VM needs is read as it is written.
func TestEverydayProfile(t *testing.T) {
	p, err := decode(`image = "debian-12"
size = "20GiB"
tpm = true
[boot]
firmware = "uefi-secure"
order = ["cdrom", "disk"]
menu = true
[guest]
keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA me@here", "id.pub"]
packages = ["git"]
[[disk]]
base = "golden.qcow2"
[[disk]]
file = "a.iso"
type = "cdrom"
[[disk]]
file = "data.qcow2"
create = true
size = "1TiB"
bus = "nvme"
[[share]]
path = "."
mount = "/src/"
`)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(p.Path)
	in := func(name string) string { return filepath.Join(dir, name) }
	want := []Disk{
		{Format: "qcow2", Type: HardDisk, Bus: VirtIO, Base: in("golden.qcow2"), BaseFormat: "qcow2"},
		{File: in("a.iso"), Format: "raw", Type: CDROM, Bus: SATA, ReadOnly: true},
		{File: in("data.qcow2"), Format: "qcow2", Type: HardDisk, Bus: NVMe, Create: true, Size: 1 << 40},
	}
	if !reflect.DeepEqual(p.Disks, want) {
		t.Errorf("disks: got %+v", p.Disks)
	}
	if p.Image != (Image{Name: "debian-12"}) || p.Size != 20<<30 || !p.TPM || p.Display != NoDisplay || p.Devices.RTC != "utc" {
		t.Errorf("got %+v", p)
	}
	if !reflect.DeepEqual(p.Boot, Boot{Firmware: UEFISecure, Order: []string{"cdrom", "disk"}, Menu: true}) {
		t.Errorf("boot: got %+v", p.Boot)
	}
	if p.Guest == nil || len(p.Guest.Keys) != 2 || p.Guest.Keys[0].File != "" || p.Guest.Keys[1].File != in("id.pub") {
		t.Errorf("guest: got %+v", p.Guest)
	}
	if !reflect.DeepEqual(p.Shares, []Share{{Path: dir, Mount: "/src"}}) {
		t.Errorf("shares: got %+v", p.Shares)
	}
}

// An image is a name, a URL or a file, by how it is written.
func TestParseImage(t *testing.T) {
	sum := strings.Repeat("0aF", 21) + "0"
	for text, want := range map[string]Image{
		"debian-12":                   {Name: "debian-12"},
		"alpine-3.20":                 {Name: "alpine-3.20"},
		"debian.qcow2":                {File: "/d/debian.qcow2"},
		"./debian":                    {File: "/d/debian"},
		"/a/b":                        {File: "/a/b"},
		"a.img.XZ":                    {File: "/d/a.img.XZ"},
		"https://h/a?b#sha256=" + sum: {URL: "https://h/a?b", Sum: "sha256:" + strings.ToLower(sum)},
	} {
		got, err := ParseImage("/d", text)
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v", text, got, err)
		}
		if again, err := ParseImage("/d", got.String()); err != nil || again != got {
			t.Errorf("%s: as %s: got %+v, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"a b", "-x", "a:b", "https://h/a"} {
		if got, err := ParseImage("/d", text); err == nil {
			t.Errorf("%s: got %+v", text, got)
		}
	}
}

func TestMTU(t *testing.T) {
	for _, mode := range []Mode{Private, HostOnly, NAT} {
		for _, mtu := range []int{MinMTU, 1500, 9000, MaxMTU} {
			p, err := decode(fmt.Sprintf("[[nic]]\nmode = %q\nnetwork = \"a\"\n[network.a]\nmtu = %d", mode, mtu))
			if err != nil || p.Networks["a"].MTU != mtu {
				t.Errorf("%s, %d: got %+v, %v", mode, mtu, p, err)
			}
		}
	}
}

func TestFileNameThatIsNoName(t *testing.T) {
	_, err := Decode(strings.NewReader(""), "/tmp/My VM.toml")
	if err == nil || !strings.Contains(err.Error(), `name: missing, and the file's name "My VM" cannot stand in for it`) {
		t.Errorf("got %v", err)
	}
}

func TestExamplesAndDocs(t *testing.T) {
	files, err := filepath.Glob("../examples/*.toml")
	if err != nil || len(files) < 5 {
		t.Fatalf("got %v, %v", files, err)
	}
	for _, f := range files {
		if _, err := Load(f); err != nil {
			t.Error(err)
		}
	}
	reader := Reader{Home: "/home/me"}
	block := regexp.MustCompile("(?ms)^```toml\n(.*?)^```")
	for _, doc := range []string{"../docs/profile.md", "../docs/firmware.md", "../README.md"} {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Error(err)
			continue
		}
		for i, m := range block.FindAllSubmatch(text, -1) {
			if _, err := reader.Decode(bytes.NewReader(m[1]), "vm.toml"); err != nil {
				t.Errorf("%s, example %d: %v", doc, i+1, err)
			}
		}
	}
}

// The schema, the decoder and the documentation name the same keys.
func TestSchemaAndDocsNameEveryKey(t *testing.T) {
	b, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(b, &schema); err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../docs/profile.md")
	if err != nil {
		t.Fatal(err)
	}
	properties := schema["properties"].(map[string]any)
	for _, typ := range []reflect.Type{
		reflect.TypeFor[rawProfile](), reflect.TypeFor[rawBoot](), reflect.TypeFor[rawDisk](),
		reflect.TypeFor[rawNIC](), reflect.TypeFor[rawNetwork](), reflect.TypeFor[rawGuest](),
		reflect.TypeFor[rawShare](), reflect.TypeFor[rawDisplay](), reflect.TypeFor[rawDevices](),
	} {
		for i := range typ.NumField() {
			key := typ.Field(i).Tag.Get("toml")
			if !strings.Contains(string(b), fmt.Sprintf("%q", key)) {
				t.Errorf("the schema lacks %s", key)
			}
			if k := typ.Field(i).Type.Kind(); k != reflect.Struct && k != reflect.Slice && k != reflect.Map && k != reflect.Pointer &&
				!strings.Contains(string(doc), "| `"+key+"` |") {
				t.Errorf("docs/profile.md lacks %s", key)
			}
		}
	}
	mode := properties["nic"].(map[string]any)["items"].(map[string]any)["properties"].(map[string]any)["mode"].(map[string]any)
	if len(mode["enum"].([]any)) != 6 || schema["additionalProperties"] != false {
		t.Errorf("got %s", b)
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"", "name = \"a\"", "[[nic]]\nmode = \"nat\"\n[network.nat]\nsubnet = \"10.1.0.0/24\"",
		"[[nic]]\nmode = \"private\"\n[network.private]\nmtu = 9000", "[network.a]\nmtu = -9223372036854775808",
		"nic = [{mode=\"nat\", x={y=1}}]",    // positions inside inline tables
		"a.b.c = 1\n[a.d]\n[[a.e]]\n[a.e.f]", // dotted keys through arrays
		"nic = 1\n[[disk]]\nfile = [1]",
		"\"\\u0000\" = 1", // a key that is no plain text
		"\"\\u001b[2J\" = 1", "[\"\u202e\"]", "\u009b = 1", "name = \"\u202e", "'\u009b' = 1\n'\u009b' = 2", "name = \x1b", "a.\"\\n\".b = 1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := decode(text)
		if (p == nil) == (err == nil) {
			t.Errorf("got %v and %v", p, err)
		}
		var errs Errors
		if err != nil && !errors.As(err, &errs) {
			t.Errorf("got %T: %v", err, err)
		}
		for _, e := range errs {
			if strings.ContainsFunc(e.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("an error could drive a terminal: %q", e.Error())
			}
		}
	})
}
