#!/bin/sh
# Installs what a fresh Debian machine lacks for the demo; does nothing where all is there.
set -eu
missing=
need() { command -v "$1" > /dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || missing="$missing $2"; }
need qemu-system-x86_64 qemu-system-x86
need busybox busybox-static
need nft nftables
need ip iproute2
need ping iputils-ping
[ -e .cache/guest/kernel/boot ] || missing="$missing "
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
	echo "the demo needs root, and these packages: $missing" >&2
	exit 1
fi
apt-get update -qq
# shellcheck disable=SC2086 # a list of packages
[ -z "${missing# }" ] || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
