#!/bin/sh
# install.sh [--must] GROUP... installs the packages of these groups of packages.txt
# that the machine lacks. Where nothing is missing, it does not ask the package manager.
# Where it cannot install, it says what is missing and succeeds, because tests skip
# what they cannot do; with --must it fails.
#
# The services of what it installs are neither started nor enabled: firewalld and
# Docker would change the filters of the machine.
set -eu
cd "$(dirname "$0")"
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C
must=
if [ "$1" = --must ]; then
	must=yes
	shift
fi

# have reports whether a program, or a file that the pattern of a path matches, is there.
have() {
	case $1 in
	/*) ls -d $1 > /dev/null 2>&1 ;;
	*) command -v "$1" > /dev/null 2>&1 ;;
	esac
}

missing=
while read -r group file package; do
	case " $* " in *" $group "*) have "$file" || missing="$missing $package" ;; esac
done < packages.txt
[ -n "$missing" ] || exit 0

# giveUp ends the script where it cannot install.
giveUp() {
	echo "$1; missing packages, by their names in Debian:$missing" >&2
	[ -z "$must" ] || exit 1
	echo "tests skip what needs them" >&2
	exit 0
}
command -v apt-get > /dev/null 2>&1 || giveUp "there is no apt-get to install packages"
[ "$(id -u)" = 0 ] || giveUp "root is needed to install packages"

# enabled lists what systemd starts by itself.
enabled() { find /etc/systemd/system -type l 2> /dev/null | sort; }

policy=/usr/sbin/policy-rc.d # invoke-rc.d(8) asks it whether a service may start
tmp=$(mktemp -d)
cleanup() {
	[ ! -e "$tmp/policy" ] || rm -f "$policy"
	enabled | comm -13 "$tmp/enabled" - | while read -r link; do rm -f "$link"; done
	rm -rf "$tmp"
}
enabled > "$tmp/enabled"
trap cleanup EXIT
trap 'exit 1' HUP INT TERM
if [ ! -e "$policy" ]; then
	touch "$tmp/policy"
	printf '#!/bin/sh\nexit 101\n' > "$policy"
	chmod 755 "$policy"
fi

echo "installing$missing, without starting or enabling their services" >&2
get() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@" > "$tmp/log" 2>&1 < /dev/null; }
# shellcheck disable=SC2086 # a list of packages
get update && get install -y --no-install-recommends $missing || {
	tail -n 5 "$tmp/log" >&2
	giveUp "apt-get failed"
}
