// Package guest makes a small Linux guest for tests and the demo: the kernel of
// a Debian package and an initramfs of busybox, the virtio modules and init.
//
// Its kernel command line says what the guest does: see init.sh.
package guest

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
)

//go:embed init.sh
var initScript []byte

// modules are the kernel modules, in the order to load them. A kernel may have some
// built in.
var modules = []string{
	"virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci",
	"failover", "net_failover", "virtio_net", "virtio_blk", "virtio_console", "button", "evdev", "pvpanic", "pvpanic_mmio",
	"fuse", "virtiofs", "qemu_fw_cfg", "efivarfs",
}

// Script is the kernel argument that makes the guest run a shell script. The guest
// writes the script's output to the console, between QNET-BEGIN and QNET-END rc=N.
func Script(script string) string {
	return "qnet.run=" + base64.StdEncoding.EncodeToString([]byte(script))
}

// Build writes vmlinuz and initrd.gz into dir, if they differ. The first time, it
// downloads the kernel package with apt-get. It never installs the package.
func Build(dir string) error {
	tree := filepath.Join(dir, "kernel")
	kernel, err := kernelOf("linux-image-cloud-amd64", tree)
	if err != nil {
		return err
	}
	archive, err := initramfs(tree)
	if err != nil {
		return err
	}
	return errors.Join(write(filepath.Join(dir, "vmlinuz"), kernel), write(filepath.Join(dir, "initrd.gz"), archive))
}

// kernelOf returns the kernel of the package that a meta package depends on, and leaves the
// package's files in a directory.
func kernelOf(meta, tree string) ([]byte, error) {
	pattern := filepath.Join(tree, "boot", "vmlinuz-*")
	images, _ := filepath.Glob(pattern)
	if len(images) == 0 {
		if err := download(meta, tree); err != nil {
			return nil, err
		}
		images, _ = filepath.Glob(pattern)
	}
	if len(images) == 0 {
		return nil, errors.New("unpack kernel package: no vmlinuz in it")
	}
	return os.ReadFile(images[0])
}

// write leaves a file alone that holds the data already: root may have made it.
func write(path string, data []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	return os.WriteFile(path, data, 0o644)
}

// downloadScript finds the package that the meta package depends on, and unpacks it. The
// lists of packages may be missing, or older than the archive: then it updates them.
const downloadScript = `set -e
cd "$1"
fetch() {
	name=$(apt-cache depends "$0" | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
	[ -n "$name" ] && apt-get download -q "$name"
}
fetch || { apt-get update -qq; fetch; }
dpkg -x "$name"_*.deb .
rm -f "$name"_*.deb`

func download(meta, tree string) error {
	if err := os.MkdirAll(tree, 0o755); err != nil {
		return err
	}
	out, err := exec.Command("sh", "-c", downloadScript, meta, tree).CombinedOutput()
	if err != nil {
		return fmt.Errorf("download kernel package: %w\n%s", err, out)
	}
	return nil
}

// initramfs packs init, busybox and the modules as a gzipped newc archive.
func initramfs(tree string) ([]byte, error) {
	return pack(func(a *archive, program []byte) error {
		for _, d := range []string{"bin", "dev", "etc", "proc", "sys", "lib", "www", "tmp"} {
			a.add(d, 0o40755, nil)
		}
		a.add("bin/busybox", 0o100755, program)
		a.add("bin/sh", 0o120777, []byte("busybox"))
		a.add("init", 0o100755, initScript)
		a.add("www/index.html", 0o100644, []byte("hello from the guest\n"))
		return a.addModules("lib", tree, modules)
	})
}

// pack makes a gzipped newc archive of what fill adds, which gets busybox.
func pack(fill func(a *archive, program []byte) error) ([]byte, error) {
	program, err := busybox()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	a := &archive{w: zip}
	if err := fill(a, program); err != nil {
		return nil, err
	}
	a.add("TRAILER!!!", 0, nil)
	err = errors.Join(a.err, zip.Close())
	return b.Bytes(), err
}

// busybox returns this machine's, which needs no libraries.
func busybox() ([]byte, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("find busybox (package busybox-static): %w", err)
	}
	return os.ReadFile(path)
}

// Archive packs one program as an archive to append to the guest's initramfs. The
// kernel unpacks both.
func Archive(name string, program []byte) ([]byte, error) {
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	a := &archive{w: zip}
	a.add(name, 0o100755, program)
	a.add("TRAILER!!!", 0, nil)
	err := errors.Join(a.err, zip.Close())
	return b.Bytes(), err
}

// addModules packs modules of an unpacked package into a directory. The order of their names is
// that of the list.
func (a *archive) addModules(dir, tree string, list []string) error {
	found := map[string]string{}
	err := filepath.WalkDir(filepath.Join(tree, "lib", "modules"), func(path string, _ fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok {
			found[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	if err != nil {
		return err
	}
	for i, m := range list {
		if path, ok := found[m]; ok {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			a.add(fmt.Sprintf("%s/%02d-%s.ko", dir, i, m), 0o100644, data)
		}
	}
	return nil
}

// Files returns the guest's kernel and initramfs, made by `make guest`, where all users
// can read them. Without them it skips the test, or fails the test when CI=true.
func Files(t testing.TB) (kernel, initrd string) {
	t.Helper()
	kernel, initrd = ".cache/guest/vmlinuz", ".cache/guest/initrd.gz"
	lab.Require(t, lab.File(kernel, "guest"), lab.File(initrd, "guest"))
	return readable(t, lab.Module(kernel)), readable(t, lab.Module(initrd))
}

// readable returns a copy of a file whose directory is closed to other users, such as
// a home directory: some tests start VMs as another user, as under sudo.
func readable(t testing.TB, path string) string {
	t.Helper()
	for dir := filepath.Dir(path); dir != "/"; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode()&0o001 != 0 {
			continue
		}
		open := lab.Dir(t)
		data, err := os.ReadFile(path)
		path = filepath.Join(open, filepath.Base(path))
		if err := errors.Join(err, os.Chmod(open, 0o755), os.WriteFile(path, data, 0o644)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return path
}
