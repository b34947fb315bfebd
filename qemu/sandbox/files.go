package sandbox

import (
	"os"
	"path/filepath"

	"github.com/qnet-vm/qnet/internal/confine"
)

// rules are the files that QEMU opens by itself: its program, what it loads, firmware and
// boot ROMs, the device of KVM. It executes nothing but its program.
func (n Need) rules(loader string) []confine.Rule {
	rules := []confine.Rule{
		{Path: n.Binary, Access: confine.Load},
		{Path: os.DevNull, Access: confine.Write}, // without it QEMU does not lock images (qemu_probe_lock_ops)
		{Path: "/etc/localtime", Access: confine.Read},
		{Path: "/sys/devices/system", Access: confine.Read}, // processors and memory, as libraries count them
	}
	if loader != "" {
		rules = append(rules, confine.Rule{Path: loader, Access: confine.Load})
	}
	for _, path := range append(confine.Libraries(), besides(n.Binary)...) {
		rules = append(rules, confine.Rule{Path: path, Access: confine.Read})
	}
	for _, f := range n.Files {
		rules = append(rules, confine.Rule{Open: f, Access: confine.Read})
	}
	if n.KVM != "" {
		rules = append(rules, confine.Rule{Path: n.KVM, Access: confine.Device})
	}
	if n.Network {
		rules = append(rules, confine.Rule{Path: "/etc/resolv.conf", Access: confine.Read})
	}
	return rules
}

// besides lists where a QEMU that is not the distribution's has its firmware and libraries:
// beside its bin directory, or in the tree that it was built in (qemu_add_data_dir,
// get_relocated_path).
func besides(binary string) []string {
	at, err := filepath.EvalSymlinks(binary)
	if err != nil {
		return nil
	}
	dir := filepath.Dir(at)
	list := []string{filepath.Join(dir, "pc-bios"), filepath.Join(dir, "qemu-bundle"), filepath.Join(dir, "..", "pc-bios")}
	if filepath.Base(dir) == "bin" {
		for _, sub := range []string{"share/qemu", "share/seabios", "lib", "lib64"} {
			list = append(list, filepath.Join(dir, "..", sub))
		}
	}
	return list
}
