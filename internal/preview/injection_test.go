package preview

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"

	"github.com/qnet-vm/qnet/internal/hardware"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/profiles"
)

// harmless are profiles that together have every key whose value is a string. A key that is new
// belongs into one of them.
var harmless = []string{`
name = "web"
memory = "64MiB"
accel = "tcg"
cpu = "max"
machine = "q35"
[boot]
kernel = "vmlinuz"
initrd = "initrd"
cmdline = "console=ttyS0"
[[disk]]
file = "a.raw"
format = "raw"
type = "disk"
bus = "virtio"
[[nic]]
mode = "nat"
network = "dev"
address = "10.1.0.9"
address6 = "fd00:1:2:3::9"
mac = "52:54:00:00:00:01"
guard = "on"
host = "all"
egress = ["deb.example:443"]
ports = ["127.0.0.1:8080:80"]
model = "e1000"
[network.dev]
subnet = "10.1.0.0/24"
ipv6 = "auto"
subnet6 = "fd00:1:2:3::/64"
uplink = "eth0"
[network.dev.pxe]
server = "10.1.0.1"
file = "boot.img"
[[share]]
path = "src"
mount = "/src"
`, `
image = "debian.qcow2"
size = "2GiB"
[boot]
firmware = "uefi"
order = ["disk", "network"]
[[disk]]
file = "c.qcow2"
base = "b.raw"
base_format = "raw"
size = "1GiB"
[[nic]]
mode = "user"
[display]
type = "none"
[devices]
rtc = "utc"
watchdog = "none"
[guest]
user = "admin"
keys = ["key.pub"]
hostname = "web"
password = "$6$salt$0123456789"
timezone = "Europe/Berlin"
locale = "C.UTF-8"
packages = ["vim"]
run = ["true"]
user_data = "user-data"
`}

// hostile are values with which text of a profile could become something else: an option, a
// script, a file, a section, a line of a terminal. CANARY is a file that must not come to be.
var hostile = []string{
	",script=CANARY", ",logfile=CANARY", "x,readonly=on", `"`, `x"}`, "a\nb", "json:{}", `json:{"driver":"file","filename":"CANARY"}`, "fat:rw:/", "/", "../", "..",
	"%s", "%n%n", "$(touch CANARY)", "`touch CANARY`", "; touch CANARY;", "'; touch CANARY; '", "\x1b[2J", "\x1b]0;x\x07", "\u009b2J", "\x00", "a\x00b",
	"-S", "-drive", "--", "file:///etc/passwd", "nbd://host", "/dev/fdset/1", "/proc/self/fd/3", "~", "~root/x", "help", "?", "\u202egpj.exe", "é", " ", "[chardev \"x\"]",
	strings.Repeat("a", 64<<10), strings.Repeat("/a", 32<<10), strings.Repeat("\"", 64<<10),
}

// place is where a string stands in a profile: keys, and indexes of arrays.
type place []any

// key is the place as messages name it.
func (p place) key() string {
	var b strings.Builder
	for _, part := range p {
		switch part := part.(type) {
		case int:
			b.WriteString("[" + strconv.Itoa(part) + "]")
		case string:
			if b.Len() > 0 {
				b.WriteString(".")
			}
			b.WriteString(part)
		}
	}
	return b.String()
}

// places lists where the schema has strings, as they stand in a tree that has them; want tells all
// that there should be by their keys without indexes and names.
func places(schema map[string]any, tree any, at place, want map[string]bool, plain string) (list []place) {
	switch {
	case schema["properties"] != nil:
		values, _ := tree.(map[string]any)
		for key, of := range schema["properties"].(map[string]any) {
			list = append(list, places(of.(map[string]any), values[key], append(slices.Clone(at), key), want, plain+"."+key)...)
		}
	case schema["items"] != nil:
		values, _ := tree.([]any)
		for i := range max(len(values), 1) {
			var value any
			if i < len(values) {
				value = values[i]
			}
			list = append(list, places(schema["items"].(map[string]any), value, append(slices.Clone(at), i), want, plain)...)
		}
	case schema["propertyNames"] != nil:
		values, _ := tree.(map[string]any)
		for _, name := range append(slices.Sorted(maps.Keys(values)), "dev")[:1] {
			list = append(list, places(schema["additionalProperties"].(map[string]any), values[name], append(slices.Clone(at), name), want, plain)...)
		}
	case schema["type"] == "string":
		_, there := tree.(string)
		want[plain] = want[plain] || there
		if there {
			list = append(list, at)
		}
	}
	return list
}

func parse(t testing.TB, text string) map[string]any {
	t.Helper()
	tree := map[string]any{}
	if err := toml.Unmarshal([]byte(text), &tree); err != nil {
		t.Fatal(err)
	}
	return tree
}

// with returns the profile's text with another string at the place.
func with(t testing.TB, text string, at place, value string) string {
	t.Helper()
	tree := parse(t, text)
	var in any = tree
	for _, part := range at[:len(at)-1] {
		in = within(in, part)
	}
	switch last := at[len(at)-1].(type) {
	case string:
		in.(map[string]any)[last] = value
	case int:
		in.([]any)[last] = value
	}
	b, err := toml.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func within(in, part any) any {
	if i, ok := part.(int); ok {
		return in.([]any)[i]
	}
	return in.(map[string]any)[part.(string)]
}

// valueAt is the string at the place.
func valueAt(t testing.TB, text string, at place) string {
	t.Helper()
	var in any = parse(t, text)
	for _, part := range at {
		in = within(in, part)
	}
	return in.(string)
}

// arguments are those of the QEMU command that `qnet plan` shows for the profile, as a shell reads
// them.
func arguments(t testing.TB, p *profiles.Profile) []string {
	t.Helper()
	run := Run{}
	for name, n := range p.Networks {
		run.Networks = append(run.Networks, Network{Plan: plan.Plan{Network: plan.Network{Name: name, Mode: n.Mode}, MTU: 1500}})
	}
	run.Firmware, _ = hardware.PlanFirmware(p, hardware.Options{})
	command, err := qemuCommand(preview{profile: p, salt: []byte("salt")}.config(run))
	if err != nil {
		t.Fatalf("a profile that is valid gives no command: %v", err)
	}
	cmd := exec.Command("sh")
	cmd.Dir, cmd.Stdin = t.TempDir(), strings.NewReader("printf '%s\\0' "+command)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(cmd.Dir); len(left) > 0 {
		t.Errorf("the command makes %s", left[0].Name())
	}
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
}

// same checks that two arguments are equal but for the value, which stands where the harmless one
// stood, and whole.
func same(t testing.TB, got, want, value, was string) {
	t.Helper()
	var gotTree, wantTree any
	if strings.HasPrefix(want, "{") && json.Unmarshal([]byte(want), &wantTree) == nil {
		if err := json.Unmarshal([]byte(got), &gotTree); err != nil {
			t.Errorf("no JSON: %.200q: %v", got, err)
			return
		}
		if !reflect.DeepEqual(replaced(wantTree, was, value), gotTree) {
			t.Errorf("%.300q, and with %q it is %q", got, was, want)
		}
		return
	}
	// Options without JSON hold nothing but words, which can end no option.
	isWord := strings.Trim(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
	whole, word := want == was && got == value, isWord && got == strings.Replace(want, was, value, 1)
	if got != want && !whole && !word {
		t.Errorf("%.300q, and with %q it is %q", got, was, want)
	}
}

// replaced puts the value in the place of strings that are the other.
func replaced(tree any, was, value string) any {
	switch tree := tree.(type) {
	case string:
		if tree == was {
			return value
		}
	case map[string]any:
		for k, v := range tree {
			tree[k] = replaced(v, was, value)
		}
	case []any:
		for i, v := range tree {
			tree[i] = replaced(v, was, value)
		}
	}
	return tree
}

// inject puts a value at a place of a profile. It is refused, with file, line, key and the value as
// it was got; or QEMU's command has as many arguments as before, and the value at most in its place.
func inject(t testing.TB, text string, at place, value string) (accepted bool) {
	t.Helper()
	if at[len(at)-1] == "network" && profiles.ValidName(value) {
		return false // it names another network, which the profile does not describe
	}
	changed := with(t, text, at, value)
	p, err := profiles.Decode(strings.NewReader(changed), "/srv/web.toml")
	if err != nil {
		refusal(t, err, changed, at, value)
		return false
	}
	before, err := profiles.Decode(strings.NewReader(text), "/srv/web.toml")
	if err != nil {
		t.Fatal(err)
	}
	got, want := arguments(t, p), arguments(t, before)
	if len(got) != len(want) {
		t.Errorf("%s = %.80q gives %d arguments, and %d before", at.key(), value, len(got), len(want))
		return true
	}
	if last := at[len(at)-1]; last == "mac" || last == "accel" || last == "bus" || last == "machine" || last == "memory" {
		return true // a value that is allowed changes options besides; TestCommand knows them
	}
	for i := range got {
		same(t, got[i], want[i], value, valueAt(t, text, at))
	}
	return true
}

// refusal checks that one of the errors is about the value.
func refusal(t testing.TB, err error, text string, at place, value string) {
	t.Helper()
	if !utf8.ValidString(value) {
		return // the file is none of TOML
	}
	var errs profiles.Errors
	if !errors.As(err, &errs) {
		t.Fatalf("got %T: %v", err, err)
	}
	quoted := strconv.Quote(value)
	if len(value) > 80 {
		quoted = strconv.Quote(value[:80])
	}
	lines := strings.Split(text, "\n")
	name, isKey := at[len(at)-1].(string)
	for _, e := range errs {
		if strings.ContainsAny(e.Error(), "\x00\x1b\n\u009b\u202e") {
			t.Errorf("an error that drives a terminal: %q", e.Error())
		}
		if e.File != "/srv/web.toml" || e.Line < 1 || e.Line > len(lines) || isKey && !strings.Contains(lines[e.Line-1], name) {
			continue
		}
		if about := e.Key == at.key() || strings.HasPrefix(at.key(), e.Key+"["); about && (value == "" || strings.Contains(e.Msg, quoted)) {
			return
		}
	}
	t.Errorf("%s = %.80q: no error about it with its line: %.500q", at.key(), value, err)
}

func schema(t testing.TB) map[string]any {
	t.Helper()
	text, err := profiles.Schema()
	tree := map[string]any{}
	if err == nil {
		err = json.Unmarshal(text, &tree)
	}
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// all lists the places of each harmless profile.
func all(t testing.TB) (lists [][]place) {
	t.Helper()
	want := map[string]bool{}
	for _, text := range harmless {
		list := places(schema(t), parse(t, text), nil, want, "")
		slices.SortFunc(list, func(a, b place) int { return strings.Compare(a.key(), b.key()) })
		lists = append(lists, list)
	}
	for key, there := range want {
		if !there {
			t.Errorf("no profile of this test has the string %s", key)
		}
	}
	if len(want) < 35 {
		t.Errorf("only %d strings in the schema: %v", len(want), want)
	}
	return lists
}

// Whatever stands in any string of a profile, it becomes no option, script, file or section of
// QEMU's command, and no command of the shell that the plan is pasted into.
func TestProfileTextIsData(t *testing.T) {
	canary := filepath.Join(t.TempDir(), "canary")
	accepted := map[string]int{}
	for i, list := range all(t) {
		for _, at := range list {
			for _, value := range hostile {
				if inject(t, harmless[i], at, strings.ReplaceAll(value, "CANARY", canary)) {
					accepted[at.key()]++
				}
			}
		}
	}
	if _, err := os.Stat(canary); err == nil {
		t.Error("the canary is there")
	}
	for _, free := range []string{"boot.cmdline", "disk[0].file", "guest.run[0]", "share[0].path"} {
		if accepted[free] < 10 {
			t.Errorf("%s takes only %d of the values: is something checked?", free, accepted[free])
		}
	}
	for _, narrow := range []string{"name", "cpu", "machine", "nic[0].model", "nic[0].network", "disk[0].format", "boot.firmware", "guest.user"} {
		t.Logf("%s takes %d", narrow, accepted[narrow])
	}
}

// Names that the user chooses as keys are quoted, too, and no key of another kind is taken.
func TestProfileKeysAreData(t *testing.T) {
	for _, key := range hostile {
		if profiles.ValidName(key) {
			continue
		}
		for what, tree := range map[string]map[string]any{
			"a key":         {key: "x"},
			"a network":     {"nic": []any{map[string]any{"mode": "nat", "network": "dev"}}, "network": map[string]any{key: map[string]any{"subnet": "10.1.0.0/24"}}},
			"a disk's key":  {"disk": []any{map[string]any{"file": "a", "format": "raw", key: "x"}}},
			"both networks": {"nic": []any{map[string]any{"mode": "nat", "network": key}}, "network": map[string]any{key: map[string]any{}}},
		} {
			text, err := toml.Marshal(tree)
			if err != nil {
				t.Fatal(err)
			}
			_, err = profiles.Decode(strings.NewReader(string(text)), "/srv/web.toml")
			if err == nil {
				t.Errorf("%s %.80q is taken", what, key)
			} else if strings.ContainsAny(strings.ReplaceAll(err.Error(), "\n", ""), "\x00\x1b\u009b\u202e\x07") || len(err.Error()) > 8<<10 {
				t.Errorf("%s %.80q: an error of %d bytes: %.300q", what, key, len(err.Error()), err)
			}
		}
	}
}

// FuzzProfileText puts any text into any string of a profile, see TestProfileTextIsData.
func FuzzProfileText(f *testing.F) {
	lists := all(f)
	for i, value := range hostile {
		if len(value) < 1<<10 {
			f.Add(uint(i), value)
		}
	}
	f.Fuzz(func(t *testing.T, n uint, value string) {
		if len(value) > 64<<10 {
			return
		}
		which := n % uint(len(lists))
		list := lists[which]
		inject(t, harmless[which], list[n/uint(len(lists))%uint(len(list))], value)
	})
}
