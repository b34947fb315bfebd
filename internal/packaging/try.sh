#!/bin/sh
# try.sh DIST CACHE tries the packages in DIST as their users would, as root: in a fresh Debian 12
# (kept in CACHE/packages) the .deb is installed, replaced by a newer one while a VM runs, removed
# and purged; the .rpm is unpacked; the arm64 binary runs under qemu-user. Nothing of it is seen
# outside of a mount, network and PID namespace.
set -eu
export LC_ALL=C DEBIAN_FRONTEND=noninteractive PATH="$PATH:/usr/sbin:/sbin"
dist=$(realpath "$1") cache=$(realpath "$2") root=$2/packages/root
[ "$(id -u)" = 0 ] || { echo "root is needed to try the packages" >&2; exit 1; }

if [ ! -e "$cache/packages/made" ]; then
	rm -rf "$cache/packages"
	mkdir -p "$cache/packages"
	archive=$(apt-get indextargets --format '$(REPO_URI)' | head -n 1)
	debootstrap --variant=minbase --include=qemu-system-x86,qemu-user,iproute2,man-db,systemd,rpm,rpm2cpio,cpio,bash-completion bookworm \
		"$root" "${archive:-http://deb.debian.org/debian}" > "$cache/packages/log" 2>&1 || { tail -n 3 "$cache/packages/log" >&2; exit 1; }
	touch "$cache/packages/made"
fi

# The tree and what the tests change in it are apart: each try begins with a fresh Debian.
cat > "$cache/packages/inside.sh" <<'INSIDE'
set -eu
fail() { echo "FAIL: $*" >&2; exit 1; }
quiet() { "$@" > /tmp/log 2>&1 || { cat /tmp/log >&2; fail "$*"; }; }
files() { find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /dist -o -path /cache -o -path /var/cache -o -path /var/lib/dpkg \) -prune -o -print | sort; }
ip link set lo up
files > /tmp/before
deb=$(ls /dist/*_amd64.deb) rpm=$(ls /dist/*.x86_64.rpm)

echo "install"
quiet dpkg -i "$deb"
dpkg -V qnet || fail "files differ from the package's"
qnet version
man -w qnet > /dev/null || fail "no manual page"
bash -c '. /usr/share/bash-completion/bash_completion; _completion_loader qnet; complete -p qnet' > /dev/null || fail "no completion of bash"
systemd-analyze verify /usr/lib/systemd/system/qnet@.service 2>&1 | grep -v "is not executable\|Failed to" && fail "the unit" || :
[ -z "$(find /etc/systemd -name 'qnet*')" ] || fail "a unit is enabled"

echo "upgrade while a VM runs"
mkdir /vm
cp /cache/guest/vmlinuz /vm/ && cp /cache/guest/initrd.gz /vm/
printf 'memory = "128MiB"\naccel = "tcg"\n[boot]\nkernel = "vmlinuz"\ninitrd = "initrd.gz"\ncmdline = "console=ttyS0 quiet qnet.net0=dhcp"\n[[nic]]\nmode = "host-only"\n' > /vm/vm.toml
quiet qnet run -d /vm/vm.toml
dpkg-deb -R "$deb" /tmp/newer
rm -f /tmp/newer/DEBIAN/conffiles # nfpm's is empty, and dpkg-deb builds none such
sed -i 's/^Version: .*/Version: 9.0.0/' /tmp/newer/DEBIAN/control
quiet dpkg-deb -b /tmp/newer /tmp/newer.deb
quiet dpkg -i /tmp/newer.deb
qnet ps | grep -q '^vm .*running' || { qnet ps; fail "the VM does not run on"; }
quiet qnet wait --for ping vm
quiet qnet restart vm
quiet qnet stop --force vm
rm -rf /vm

echo "remove and purge"
quiet dpkg -r qnet
quiet dpkg -P qnet
rm -rf /var/lib/qnet /root/.local /root/.config /root/.ssh # the VM's, not the package's
files > /tmp/after
diff /tmp/before /tmp/after | grep -v '/root\|/var/log\|/etc/ld.so.cache\|/tmp' | grep '^[<>]' && fail "left behind"

echo "the .rpm"
mkdir /tmp/rpm && cd /tmp/rpm && rpm2cpio "$rpm" | cpio -idm --no-absolute-filenames 2> /dev/null
./usr/bin/qnet version
rpm -qp --recommends "$rpm" 2> /dev/null | grep -q qemu-system-x86-core || fail "the .rpm recommends no QEMU"
mkdir /tmp/rpmroot && quiet rpm --root /tmp/rpmroot -i --nodeps --noscripts --nosignature "$rpm"
/tmp/rpmroot/usr/bin/qnet version

echo "arm64"
mkdir /tmp/arm && tar -C /tmp/arm -xzf /dist/*-linux-arm64.tar.gz --strip-components=1
cp -r /tmp/arm/share/doc/qnet/examples /tmp/examples
quiet qemu-aarch64 /tmp/arm/bin/qnet --help
printf '[[nic]]\nmode = "user"\n' > /tmp/arm.toml
quiet qemu-aarch64 /tmp/arm/bin/qnet check /tmp/arm.toml
quiet qemu-aarch64 /tmp/arm/bin/qnet plan /tmp/arm.toml
qemu-aarch64 /tmp/arm/bin/qnet version
echo "all as it should be"
INSIDE
mkdir -p "$cache/packages/top"
exec unshare -m -n -p -f --kill-child --propagation private sh -euc '
	mount -t tmpfs t "$1/packages/top"
	mkdir "$1/packages/top/upper" "$1/packages/top/work" "$1/packages/top/all"
	all=$1/packages/top/all
	mount -t overlay o -o "lowerdir=$1/packages/root,upperdir=$1/packages/top/upper,workdir=$1/packages/top/work" "$all"
	mount -t proc p "$all/proc"
	mount --rbind /sys "$all/sys"
	mount --rbind /dev "$all/dev"
	mount -t tmpfs -o mode=755 r "$all/run"
	mkdir -p "$all/dist" "$all/cache/guest"
	mount --bind "$2" "$all/dist"
	mount --bind "$1/guest" "$all/cache/guest"
	cp "$1/packages/inside.sh" "$all/tmp/"
	exec env -i HOME=/root TERM=dumb LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$all" sh /tmp/inside.sh' sh "$cache" "$dist"
