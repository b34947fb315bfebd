package lab

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Host is a snapshot of what qnet may change on a host: links, addresses, routes,
// rules, permanent neighbours, nftables, iptables-legacy, sysctls, listening and packet
// sockets, and the files below some directories. Each line is one object.
type Host struct {
	dirs  []string
	lines []string
}

// Snapshot reads the host, and the names of the files below dirs. A directory that
// is missing equals an empty one.
func Snapshot(t testing.TB, dirs ...string) Host {
	t.Helper()
	h := Host{dirs: dirs}
	h.command(t, "link", "ip -d -o link")
	h.command(t, "addr", "ip -o addr")
	h.command(t, "route", "ip route show table all; ip -6 route show table all")
	h.command(t, "neigh", "ip neigh show nud permanent; ip neigh show proxy; ip -6 neigh show proxy")
	h.command(t, "rule", "ip rule; ip -6 rule")
	h.command(t, "nft", "nft -s list ruleset") // without counters
	h.command(t, "legacy", LegacyRules)
	h.file("packet", "/proc/net/packet")
	h.listeners()
	h.sysctls()
	for _, d := range dirs {
		h.files(d)
	}
	return h
}

// LegacyRules is a script that lists the tables of iptables-legacy without counters. It
// lists only loaded tables, because iptables-legacy-save loads any other.
const LegacyRules = `for v in "" 6; do
	for t in $(cat /proc/net/ip${v}_tables_names 2>/dev/null); do
		echo "$v $t"; ip${v}tables-legacy-save -t $t | sed '/^#/d; s/\[[0-9]*:[0-9]*\]//'
	done
done`

// volatile matches what the kernel changes by itself: lifetimes, timers, the state of
// duplicate address detection and of STP, and the name of nft's caller.
var volatile = regexp.MustCompile(`valid_lft \S+ preferred_lft \S+|expires \S+|\s+-?\d+\.\d\d\b|\b(tentative|dadfailed) ?|bridge_id \S+|(ageing_time|topology_change|topology_change_detected) \d+|progname .*`)

func (h *Host) command(t testing.TB, name, script string) {
	t.Helper()
	for line := range strings.Lines(Sh(t, script)) {
		h.add(name, volatile.ReplaceAllString(strings.TrimRight(line, "\n"), ""))
	}
}

func (h *Host) add(name, line string) { h.lines = append(h.lines, name+": "+line) }

func (h *Host) file(name, path string) {
	b, _ := os.ReadFile(path)
	for line := range strings.Lines(string(b)) {
		h.add(name, strings.TrimSpace(line))
	}
}

func (h *Host) listeners() {
	for _, proto := range []string{"tcp", "tcp6", "udp", "udp6", "raw"} {
		b, _ := os.ReadFile("/proc/net/" + proto)
		for line := range strings.Lines(string(b)) {
			words := strings.Fields(line)
			// State 0A is LISTEN; a UDP socket is 07.
			if len(words) > 3 && (words[3] == "0A" || words[3] == "07") {
				h.add("listen", proto+" "+words[1])
			}
		}
	}
}

func (h *Host) sysctls() {
	for _, root := range []string{"ipv4/conf", "ipv6/conf", "ipv4/ip_forward", "bridge"} {
		filepath.WalkDir("/proc/sys/net/"+root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				b, _ := os.ReadFile(path)
				h.add("sysctl", path+" = "+strings.TrimSpace(string(b)))
			}
			return nil
		})
	}
}

func (h *Host) files(dir string) {
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && path != dir {
			h.add("file", path)
		}
		return nil
	})
}

// Lines are the objects of the snapshot, each "kind: words of the kernel's listing".
func (h Host) Lines() []string { return slices.Clone(h.lines) }

// momentary is the end of a lock file's path. Keepers make and remove the lock while
// VMs run, so its absence is no difference.
const momentary = "/locks/plan"

// Diff lists the objects that appeared (+) and disappeared (-) from before to now. It
// is "" for equal snapshots.
func Diff(before, now Host) string {
	count := map[string]int{}
	for _, line := range before.lines {
		count[line]--
	}
	var b strings.Builder
	for _, line := range now.lines {
		if count[line]++; count[line] > 0 {
			fmt.Fprintf(&b, "+ %s\n", line)
		}
	}
	for _, line := range before.lines {
		if count[line] < 0 && !strings.HasSuffix(line, momentary) {
			count[line]++
			fmt.Fprintf(&b, "- %s\n", line)
		}
	}
	return b.String()
}

// Check fails the test if the host still differs from the snapshot after 2 s. The kernel
// reports a link's carrier with a delay.
func (h Host) Check(t testing.TB) {
	t.Helper()
	var diff string
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if diff = Diff(h, Snapshot(t, h.dirs...)); diff == "" {
			return
		}
	}
	t.Errorf("the host is not as it was:\n%s", diff)
}
