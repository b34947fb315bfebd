package profiles

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/qnet-vm/qnet/internal/pattern"
)

// foreign are keys of other programs (libvirt, quickemu, lima, docker) and near words,
// with what a profile calls them. The part before the dot is the table: "" is the top.
var foreign = map[string]string{
	".ram": "memory", ".mem": "memory", ".memsize": "memory", ".maxmem": "memory",
	".vcpu": "cpus", ".vcpus": "cpus", ".smp": "cpus", ".cores": "cpus", ".cpu_cores": "cpus", ".ncpus": "cpus",
	".vm": "nothing: keys of the VM stand at the top, without a table", ".title": "name", ".cpu_model": "cpu", ".arch": "machine", ".machine_type": "machine",
	".disks": "[[disk]]", ".disk_img": "[[disk]] with file", ".images": "[[disk]]", ".drive": "[[disk]]",
	".drives": "[[disk]]", ".hda": "[[disk]] with file", ".cdrom": "[[disk]] with file and type = \"cdrom\"",
	".iso": "[[disk]] with file and type = \"cdrom\"", ".net": "[[nic]]", ".nics": "[[nic]]", ".network_mode": "mode in [[nic]]",
	".interface": "[[nic]]", ".interfaces": "[[nic]]", ".netdev": "[[nic]]", ".networks": "[[nic]], and [network.NAME]", ".firmware": "firmware in [boot]", ".shares": "[[share]]", ".mount": "[[share]]", ".mounts": "[[share]]", ".vnc": "[display] with type = \"vnc\"", ".ssh_keys": "keys in [guest]", ".user_data": "user_data in [guest]", ".cloud_init": "[guest]", ".os": "image", ".distro": "image",
	".disk_size": "size",
	".qemu_args": "nothing: QEMU's own arguments go behind -- of qnet run", ".extra_args": "nothing: QEMU's own arguments go behind -- of qnet run",
	"boot.image": "kernel", "boot.linux": "kernel", "boot.initramfs": "initrd", "boot.ramdisk": "initrd",
	"boot.append": "cmdline", "boot.args": "cmdline", "boot.kernel_args": "cmdline", "boot.options": "cmdline",
	"disk.path": "file", "disk.image": "file", "disk.img": "file", "disk.source": "file", "disk.src": "file", "disk.filename": "file",
	"disk.fmt": "format", "disk.driver": "format", "disk.ro": "readonly", "disk.rw": "readonly",
	"disk.read_only": "readonly", "disk.read-only": "readonly", "disk.temporary": "snapshot", "disk.ephemeral": "snapshot",
	"nic.type": "mode", "nic.kind": "mode", "nic.ip": "address", "nic.ipv4": "address", "nic.ip_address": "address",
	"nic.macaddr": "mac", "nic.mac_address": "mac", "nic.macaddress": "mac", "nic.hwaddr": "mac", "nic.device": "model", "nic.driver": "model",
	".publish": "ports in [[nic]]", ".hostfwd": "ports in [[nic]]", ".port_forwards": "ports in [[nic]]",
	"nic.port": "ports", "nic.hostfwd": "ports", "nic.forward": "ports", "nic.forwards": "ports", "nic.publish": "ports", "nic.portforward": "ports",
	"nic.bridge": "uplink in [network.NAME], with mode = \"bridge\"", "nic.net": "network",
	"network.cidr": "subnet", "network.range": "subnet", "network.prefix": "subnet", "network.parent": "uplink", "network.interface": "uplink",
	"network.dev": "uplink", "network.device": "uplink", "network.link": "uplink", "network.bridge": "uplink",
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

// amount matches a size with or without a unit: "2 GB", "2048", "1.5GiB".
var amount = pattern.Of(`^\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*$`)

// memoryMeant returns the size that a text stands for, as a profile writes it; "" if that
// is no size that a VM may have. A number without a unit is of MiB, as for qemu -m, or of
// GiB or bytes if it is too small or too large for that.
func memoryMeant(s string) string {
	m := amount().FindStringSubmatch(s)
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

// textMeant returns the text that a value of the key stands for, "" for none.
func textMeant(key, text string) string {
	switch {
	case key == "memory":
		return memoryMeant(text)
	case key == "name" && Reserved(text) != "":
		return ""
	case key == "", key == "locale": // a string of an array; no guess is near
		return ""
	}
	return text
}
