#!/bin/sh
# unpack.sh GROUP DIR unpacks the packages of a group of packages.txt into DIR, and
# installs nothing. Where it cannot, it says so and succeeds: tests skip what needs them.
set -eu
dir=$2
mkdir -p "$dir"
packages= missing=
while read -r group file package; do
	[ "$group" = "$1" ] || continue
	packages="$packages $package"
	ls -d "$dir"/$file > /dev/null 2>&1 || missing=yes
done < "$(dirname "$0")/packages.txt"
[ -n "$missing" ] || exit 0

cd "$dir"
# The lists of packages may be missing, or older than the archive.
# shellcheck disable=SC2086 # a list of packages
if apt-get download -q $packages > log 2>&1 || { apt-get update -qq && apt-get download -q $packages; } >> log 2>&1; then
	for p in *.deb; do dpkg -x "$p" .; done
	rm -f ./*.deb log
else
	tail -n 3 log >&2
	echo "cannot download$packages; tests skip what needs them" >&2
fi
