#!/bin/sh
# The demo: a VM behind NAT. It runs in network and mount namespaces of its own,
# with a stand-in for the Internet behind them, so that it is safe anywhere.
set -eu
if [ "${1:-}" != inside ]; then
	if [ "$(id -u)" != 0 ]; then
		echo "run it as root: sudo make demo" >&2
		exit 1
	fi
	exec unshare --net --mount --propagation private sh "$0" inside
fi

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
fail() { echo "demo: $*" >&2; exit 1; }
fetch() { timeout 5 busybox wget -q -O - "$1"; }
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C QNET_RUN_DIR QNET_STATE_DIR
tmp=$(mktemp -d)
QNET_RUN_DIR=$tmp/run QNET_STATE_DIR=$tmp/state
inet_pid=
cleanup() {
	bin/qnet stop --force demo > /dev/null 2>&1 || true
	[ -z "$inet_pid" ] || kill "$inet_pid" 2> /dev/null || true
	rm -rf "$tmp"
}
trap cleanup EXIT

# The network around the host: eth0, a gateway, and 203.0.113.1 as the Internet.
mount -t sysfs sysfs /sys
mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns
ip link set lo up
ip netns add inet
ip link add eth0 type veth peer name lan0 netns inet
ip -n inet link set lo up
ip -n inet link set lan0 addrgenmode none up
ip link set eth0 addrgenmode none up
ip -n inet addr add 192.0.2.1/24 dev lan0
ip -n inet addr add 203.0.113.1/32 dev lo
ip addr add 192.0.2.10/24 dev eth0
ip route add default via 192.0.2.1
mkdir "$tmp/www"
echo "hello from the Internet" > "$tmp/www/index.html"
ip netns exec inet busybox httpd -f -p 203.0.113.1:80 -h "$tmp/www" &
inet_pid=$!

snapshot() {
	{
		ip -o link; ip -o addr; ip route show table all; ip rule; nft list ruleset
		grep -r . /proc/sys/net/ipv4/conf /proc/sys/net/ipv6/conf /proc/sys/net/ipv4/ip_forward 2> /dev/null
		find "$QNET_RUN_DIR" 2> /dev/null
	} | sed 's/valid_lft.*//' | sort
}
snapshot > "$tmp/before"

say "1. What would it change?  qnet plan --allow-path .cache examples/demo.toml"
bin/qnet plan --allow-path .cache examples/demo.toml 2> /dev/null

say "2. The VM runs; its console follows.  qnet run --allow-path .cache examples/demo.toml"
bin/qnet run --allow-path .cache examples/demo.toml > "$tmp/console" 2>&1 &
run_pid=$!
for _ in $(seq 100); do
	[ -S "$QNET_RUN_DIR/vms/demo/control.sock" ] && break
	sleep 0.1
done
address=$(bin/qnet wait --for port:80 demo) || { cat "$tmp/console"; fail "the guest got no address"; }
bin/qnet ps
bin/qnet net

page=http://$address/cgi-bin/hello
say "3. The host reaches the guest.  wget $page"
answer=
for _ in $(seq 50); do # the guest writes the page a moment after its server is up
	answer=$(fetch "$page" 2> /dev/null) && break
	sleep 0.2
done
echo "$answer"
[ "$answer" = "hello from the guest" ] || { cat "$tmp/console"; fail "the host does not reach the guest"; }

say "4. What the guest saw, until it powered itself off"
wait "$run_pid" || { cat "$tmp/console"; fail "qnet run failed"; }
sed -n '/QNET-BEGIN/,/QNET-END/p' "$tmp/console"
grep -q 'QNET-END rc=0' "$tmp/console" || fail "the guest did not reach its gateway and the Internet"

say "5. What is left on the host?"
snapshot > "$tmp/after"
if ! diff "$tmp/before" "$tmp/after"; then
	fail "the host is not as it was"
fi
echo "nothing: links, addresses, routes, rules, sysctls and files are as before."

say "For real, on this machine:  sudo bin/qnet run --allow-path .cache examples/nat.toml   (Ctrl-] q ends it)"
