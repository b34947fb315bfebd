package guest

import (
	"errors"
	"os"
	"path/filepath"
)

// FirstInit is the kernel argument for an initramfs with the archive of BuildWhole at its end.
const FirstInit = "rdinit=/first/init"

// firstInit loads modules and goes on with the initramfs's own init. That one finds no modules
// of this kernel, neither in the initramfs nor on the disk.
const firstInit = `#!/first/busybox sh
for module in /first/*.ko; do
	/first/busybox insmod "$module"
done
exec /init "$@"
`

// wholeModules are what a Debian with a seed, a NIC, shared folders and 9p needs of a kernel
// that has nothing built in, in the order to load them.
var wholeModules = []string{
	"virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci",
	"failover", "net_failover", "virtio_net", "virtio_blk", "virtio_console",
	"crc16", "mbcache", "jbd2", "crc32c_generic", "ext4", "cdrom", "isofs", "autofs4",
	"fuse", "virtiofs", "netfs", "fscache", "9pnet", "9pnet_virtio", "9p",
}

// BuildWhole writes into dir the kernel of Debian's package with all drivers, as vmlinuz, and
// first.gz, an archive to append to the initramfs of the Debian disk. Debian's kernel for
// clouds has no 9p. It downloads the package with apt-get, 70 MB, and keeps nothing of it.
func BuildWhole(dir string) error {
	first := filepath.Join(dir, "first.gz")
	if _, err := os.Stat(first); err == nil {
		return nil
	}
	tree := filepath.Join(dir, "kernel")
	defer os.RemoveAll(tree) // 400 MB
	kernel, err := kernelOf("linux-image-amd64", tree)
	if err != nil {
		return err
	}
	archive, err := firstArchive(tree)
	if err != nil {
		return err
	}
	return errors.Join(write(filepath.Join(dir, "vmlinuz"), kernel), write(first, archive))
}

// firstArchive packs the modules with what loads them.
func firstArchive(tree string) ([]byte, error) {
	return pack(func(a *archive, program []byte) error {
		a.add("first", 0o40755, nil)
		a.add("first/busybox", 0o100755, program)
		a.add("first/init", 0o100755, []byte(firstInit))
		return a.addModules("first", tree, wholeModules)
	})
}
