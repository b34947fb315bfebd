package profiles

import (
	"fmt"
	"net"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// foreign are keys of other programs (libvirt, quickemu, lima, docker) and near words,
// with what a profile calls them. The part before the dot is the table: "" is the top.
var foreign = map[string]string{
	".ram": "memory", ".mem": "memory", ".memsize": "memory", ".maxmem": "memory",
	".vcpu": "cpus", ".vcpus": "cpus", ".smp": "cpus", ".cores": "cpus", ".cpu_cores": "cpus", ".ncpus": "cpus",
	".hostname": "name", ".vm": "nothing: keys of the VM stand at the top, without a table", ".guest": "nothing: keys of the VM stand at the top, without a table", ".title": "name", ".cpu_model": "cpu", ".arch": "machine", ".machine_type": "machine",
	".disks": "[[disk]]", ".disk_img": "[[disk]] with file", ".image": "[[disk]] with file", ".images": "[[disk]]", ".drive": "[[disk]]",
	".drives": "[[disk]]", ".hda": "[[disk]] with file", ".cdrom": "[[disk]] with file, format = \"raw\" and readonly = true",
	".iso": "[[disk]] with file, format = \"raw\" and readonly = true", ".net": "[[nic]]", ".nics": "[[nic]]", ".network_mode": "mode in [[nic]]",
	".interface": "[[nic]]", ".interfaces": "[[nic]]", ".netdev": "[[nic]]", ".networks": "[[nic]], and [network.NAME]", ".firmware": "[boot]",
	".disk_size": "nothing: an image has its size, and qemu-img resize changes it",
	".qemu_args": "nothing: QEMU's own arguments go behind -- of qnet run", ".extra_args": "nothing: QEMU's own arguments go behind -- of qnet run",
	"boot.image": "kernel", "boot.linux": "kernel", "boot.initramfs": "initrd", "boot.ramdisk": "initrd",
	"boot.append": "cmdline", "boot.args": "cmdline", "boot.kernel_args": "cmdline", "boot.options": "cmdline",
	"disk.path": "file", "disk.image": "file", "disk.img": "file", "disk.source": "file", "disk.src": "file", "disk.filename": "file",
	"disk.type": "format", "disk.fmt": "format", "disk.driver": "format", "disk.ro": "readonly", "disk.rw": "readonly",
	"disk.read_only": "readonly", "disk.read-only": "readonly", "disk.temporary": "snapshot", "disk.ephemeral": "snapshot",
	"disk.size": "nothing: an image has its size, and qemu-img resize changes it",
	"nic.type":  "mode", "nic.kind": "mode", "nic.ip": "address", "nic.ipv4": "address", "nic.ip_address": "address",
	"nic.macaddr": "mac", "nic.mac_address": "mac", "nic.macaddress": "mac", "nic.hwaddr": "mac", "nic.device": "model", "nic.driver": "model",
	"nic.bridge": "uplink in [network.NAME], with mode = \"bridge\"", "nic.net": "network",
	"network.cidr": "subnet", "network.range": "subnet", "network.prefix": "subnet", "network.parent": "uplink", "network.interface": "uplink",
	"network.dev": "uplink", "network.device": "uplink", "network.link": "uplink", "network.bridge": "uplink",
}

// meant says which key a user probably meant by an unknown one, "" without a guess.
// path is the table's, names are its keys.
func meant(path, key string, names []string) string {
	table := tableOf(path)
	if other, ok := foreign[table+"."+strings.ToLower(key)]; ok {
		if rest, nothing := strings.CutPrefix(other, "nothing: "); nothing {
			return rest
		}
		return "did you mean " + other + "?"
	}
	if near := nearest(key, names); near != "" {
		return "did you mean " + near + "?"
	}
	return elsewhere(table, key)
}

// tableOf returns the name by which meant and elsewhere know the table of a path, such
// as "nic" for "nic[0]" and "network" for "network.dev".
func tableOf(path string) string {
	if rest, ok := strings.CutPrefix(path, "network."); ok {
		if strings.HasSuffix(rest, ".pxe") {
			return "network.pxe"
		}
		return "network"
	}
	name, _, _ := strings.Cut(path, "[")
	return name
}

// elsewhere says which table has the key.
func elsewhere(table, key string) string {
	for _, t := range []struct {
		name, header string
		of           reflect.Type
	}{
		{"", "at the top, before the first table", reflect.TypeFor[rawProfile]()},
		{"boot", "in [boot]", reflect.TypeFor[rawBoot]()},
		{"disk", "in [[disk]]", reflect.TypeFor[rawDisk]()},
		{"nic", "in [[nic]]", reflect.TypeFor[rawNIC]()},
		{"network", "in [network.NAME]", reflect.TypeFor[rawNetwork]()},
	} {
		if t.name != table && slices.Contains(keysOf(t.of), key) {
			return key + " belongs " + t.header
		}
	}
	return ""
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for i := range t.NumField() {
		keys = append(keys, t.Field(i).Tag.Get("toml"))
	}
	return keys
}

// nearest returns the name that a typing error made the key of, "" if none is near.
func nearest(key string, names []string) string {
	best, least := "", max(1, len(key)/3)+1
	for _, name := range names {
		if n := edits(strings.ToLower(key), name); n < least {
			best, least = name, n
		}
	}
	return best
}

// edits counts the characters to insert, delete, replace or swap with their neighbour
// that make b of a (optimal string alignment distance).
func edits(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			n := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				n = min(n, rows[i-2][j-2]+1)
			}
			rows[i][j] = n
		}
	}
	return rows[len(a)][len(b)]
}

// amount matches a size with or without a unit: "2 GB", "2048", "1.5GiB".
var amount = regexp.MustCompile(`^\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*$`)

// memoryMeant returns the size that a text stands for, as a profile writes it; "" if that
// is no size that a VM may have. A number without a unit is of MiB, as for qemu -m, or of
// GiB or bytes if it is too small or too large for that.
func memoryMeant(s string) string {
	m := amount.FindStringSubmatch(s)
	if m == nil {
		return ""
	}
	number, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return ""
	}
	unit := strings.ToLower(m[2])
	mib := number * mibPerUnit[strings.TrimSuffix(strings.TrimSuffix(unit, "b"), "i")]
	switch {
	case unit == "" && number < leastMiB:
		mib, unit = number*1024, "gib"
	case (unit == "" || unit == "b") && number > mostMiB:
		mib = number / (1 << 20)
	}
	if mib < leastMiB || mib > mostMiB || mib != float64(int64(mib)) {
		return ""
	}
	if n := int64(mib); n%1024 != 0 || unit == "" || unit[0] == 'm' {
		return fmt.Sprintf("%dMiB", n)
	}
	return fmt.Sprintf("%dGiB", int64(mib)/1024)
}

var mibPerUnit = map[string]float64{"": 1, "k": 1. / 1024, "m": 1, "g": 1024, "t": 1024 * 1024}

// instead returns how the key is written rightly with a value of the wrong type or form,
// as "; write memory = \"2048MiB\"", and "" if that cannot be told.
func instead(path string, v any, kind reflect.Kind, tag reflect.StructTag) string {
	key := path[strings.LastIndexAny(path, ".]")+1:]
	text := fmt.Sprint(v)
	if list, ok := v.([]any); ok && len(list) == 1 {
		text = fmt.Sprint(list[0])
	}
	switch kind {
	case reflect.String:
		text = textMeant(key, text)
		if text != "" && fits(text, tag) {
			return fmt.Sprintf("; write %s = %q", key, text)
		}
	case reflect.Int64:
		n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(text), ".0"), 10, 64)
		if err == nil && inRange(n, tag) {
			return fmt.Sprintf("; write %s = %d", key, n)
		}
	case reflect.Bool:
		if b, ok := truth(text); ok || text == "1" || text == "0" {
			return fmt.Sprintf("; write %s = %t", key, b || text == "1")
		}
	}
	return ""
}

// textMeant returns the text that a value of the key stands for, "" for none.
func textMeant(key, text string) string {
	switch {
	case key == "memory":
		return memoryMeant(text)
	case key == "name" && Reserved(text) != "":
		return ""
	}
	return text
}

// form says what a value of the key looks like, behind the name of its type.
func form(tag reflect.StructTag) string {
	enum, words, limits := tag.Get("enum"), tag.Get("words"), tag.Get("range")
	switch {
	case enum != "":
		return ": " + strings.ReplaceAll(enum, ",", ", ")
	case words != "":
		return ": " + words
	case limits != "":
		return ", " + strings.ReplaceAll(limits, ",", " to ")
	}
	return ""
}

// spelled returns the allowed word that a user probably meant, as a part of a sentence.
func spelled(path, got string, allowed []string) string {
	key := path[strings.LastIndexAny(path, ".]")+1:]
	word := strings.ToLower(strings.Trim(got, " \u00a0"+doubleQuotes+singleQuotes))
	word = strings.NewReplacer("_", "-", " ", "-", "hostonly", "host-only", "bridged", "bridge", "img", "raw").Replace(word)
	if word = nearest(word, allowed); word == "" {
		return ""
	}
	return fmt.Sprintf("; write %s = %q", key, word)
}

// rewritten returns how a string that the key does not allow is written rightly, as
// instead does: in lower case, with its unit, without what stands around it.
func rewritten(path, s string, tag reflect.StructTag) string {
	if hint := instead(path, s, reflect.String, tag); hint != "" {
		return hint
	}
	bare := strings.Trim(s, " \u00a0"+doubleQuotes+singleQuotes)
	mac, _ := net.ParseMAC(bare)
	for _, try := range []string{bare, mac.String(), strings.ToLower(bare), strings.NewReplacer("_", "-", " ", "-", ".", "-").Replace(strings.ToLower(bare))} {
		if hint := instead(path, try, reflect.String, tag); hint != "" {
			return hint
		}
	}
	return ""
}

// fits reports whether a text is one that the key allows by itself.
func fits(text string, tag reflect.StructTag) bool {
	enum, pattern := tag.Get("enum"), tag.Get("pattern")
	switch {
	case enum != "":
		return slices.Contains(strings.Split(enum, ","), text)
	case pattern != "":
		return regexp.MustCompile(pattern).MatchString(text)
	}
	return false
}

// inRange reports whether a number is one that the key allows.
func inRange(n int64, tag reflect.StructTag) bool {
	low, high, ok := strings.Cut(tag.Get("range"), ",")
	if !ok {
		return true
	}
	least, _ := strconv.ParseInt(low, 10, 64)
	most, _ := strconv.ParseInt(high, 10, 64)
	return n >= least && n <= most
}
