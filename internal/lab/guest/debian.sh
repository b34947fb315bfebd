#!/bin/sh
# debian.sh DIR makes a disk with Debian 12 for tests, as a distribution's cloud image is:
# systemd, networkd, resolved, an SSH server without host keys, cloud-init, and no account
# that lets anyone in.
#
#     DIR/debian.qcow2   the root file system on the whole disk, ext4, labelled root
#     DIR/vmlinuz, DIR/initrd.img
#
# Its kernel command line is "root=LABEL=root rw console=ttyS0". It takes root, and packages
# of Debian from where the machine has its own. The disk stays until this script changes.
set -eu
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
script=$(cksum < "$0")
dir=$1
if [ "$(cat "$dir/made" 2> /dev/null)" = "$script" ]; then
	exit 0
fi
[ "$(id -u)" = 0 ] || { echo "root is needed to make the Debian disk" >&2; exit 1; }
rm -rf "$dir"
mkdir -p "$dir"
cd "$dir"
root=$PWD/root
trap 'rm -rf "$root" "$root.raw"' EXIT

# fail shows the end of a log.
fail() {
	tail -n 3 "$1" >&2
	echo "cannot make the Debian disk" >&2
	exit 1
}

archive=$(apt-get indextargets --format '$(REPO_URI)' | head -n 1)
debootstrap --variant=minbase bookworm "$root" "${archive:-http://deb.debian.org/debian}" > debootstrap.log 2>&1 || fail debootstrap.log

# The machine's own way to packages, for as long as they are installed.
cp -r "$root/etc/apt" "$root/etc/apt.new"
for part in sources.list sources.list.d apt.conf.d trusted.gpg.d; do
	[ ! -e "/etc/apt/$part" ] || { rm -rf "$root/etc/apt/$part" && cp -r "/etc/apt/$part" "$root/etc/apt/"; }
done
cp -rn /usr/share/keyrings/. "$root/usr/share/keyrings/" 2> /dev/null || true
printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d" # no service starts
chmod +x "$root/usr/sbin/policy-rc.d"
mkdir -p "$root/etc/initramfs-tools/conf.d"
echo MODULES=most > "$root/etc/initramfs-tools/conf.d/modules" # also those that this machine does without

# Mounts of a namespace of its own end with it.
ROOT=$root unshare --mount --propagation private sh -euc '
	mount -t proc proc "$ROOT/proc"
	mount --rbind /sys "$ROOT/sys"
	mount --rbind /dev "$ROOT/dev"
	rm -f "$ROOT/etc/resolv.conf"
	cp /etc/resolv.conf /etc/hosts "$ROOT/etc/"
	chroot "$ROOT" apt-get update -qq
	chroot "$ROOT" apt-get install -y -qq --no-install-recommends \
		systemd-sysv systemd-resolved udev dbus iproute2 iputils-ping netbase ca-certificates sudo less locales \
		openssh-server cloud-init cloud-guest-utils qemu-guest-agent e2fsprogs initramfs-tools linux-image-cloud-amd64
	chroot "$ROOT" apt-get clean
' > install.log 2>&1 || fail install.log

rm -rf "$root/etc/apt" "$root/usr/sbin/policy-rc.d" "$root"/etc/ssh/ssh_host_* "$root/etc/resolv.conf"
mv "$root/etc/apt.new" "$root/etc/apt"
ln -s ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
: > "$root/etc/machine-id"
echo debian > "$root/etc/hostname"
printf '127.0.0.1 localhost\n::1 localhost\n' > "$root/etc/hosts"
echo 'LABEL=root / ext4 defaults 0 1' > "$root/etc/fstab"
echo 'locale: C.UTF-8' > "$root/etc/cloud/cloud.cfg.d/10_locale.cfg" # another one would have to be generated
for unit in systemd-networkd systemd-resolved; do
	ln -sf "/lib/systemd/system/$unit.service" "$root/etc/systemd/system/multi-user.target.wants/"
done

cp "$root"/boot/vmlinuz-* vmlinuz
cp "$root"/boot/initrd.img-* initrd.img
mke2fs -q -t ext4 -L root -d "$root" "$root.raw" 3G
qemu-img convert -O qcow2 "$root.raw" debian.qcow2
chmod 644 debian.qcow2 vmlinuz initrd.img
echo "$script" > made
