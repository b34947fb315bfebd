package keeper_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/profiles"
)

// A network has the MTU that its first VM chose. DHCP tells it to the guests, and no
// change of the uplink changes it.
func TestChosenMTU(t *testing.T) {
	for _, mode := range []profiles.Mode{profiles.Private, profiles.HostOnly, profiles.NAT} {
		for _, mtu := range []string{"576", "1280", "9000"} {
			t.Run(string(mode)+" "+mtu, func(t *testing.T) {
				inLab(t, func(t *testing.T, o Options) { chosenMTU(t, o, mode, mtu) })
			})
		}
	}
}

func chosenMTU(t *testing.T, o Options, mode profiles.Mode, mtu string) {
	n := Network{Name: "dev", Mode: mode, MTU: map[string]int{"576": 576, "1280": 1280, "9000": 9000}[mtu]}
	web := mustJoin(t, o, n, "web", port(1))
	db := mustJoin(t, o, Network{Name: "dev", Mode: mode}, "db", port(2)) // without a wish for an MTU
	all := func() []string { return strings.Fields(lab.Sh(t, "cat /sys/class/net/qn*/mtu")) }
	for _, uplink := range []string{"1400", "9500", "1500"} {
		lab.Sh(t, "ip link set eth0 mtu "+uplink)
		time.Sleep(50 * time.Millisecond) // no event follows
		if got := strings.Join(all(), " "); got != strings.Join([]string{mtu, mtu, mtu}, " ") {
			t.Errorf("uplink %s: the links' MTU are %s, want %s", uplink, got, mtu)
		}
	}
	if web.Info().MTU != n.MTU || db.Info().MTU != n.MTU {
		t.Errorf("told of MTU %d and %d, want %d", web.Info().MTU, db.Info().MTU, n.MTU)
	}
	mustLeave(t, web)
	if mode != profiles.Private {
		if got := toldByDHCP(t, o); got != mtu {
			t.Errorf("DHCP tells MTU %q, want %s", got, mtu)
		}
	}
	mustLeave(t, db)
}

// toldByDHCP is the MTU that a client asking for it gets.
func toldByDHCP(t *testing.T, o Options) string {
	t.Helper()
	script := filepath.Join(filepath.Dir(o.RunDir), "told")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"$mtu\" > $0.$1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	lab.Guest(t, "vm1", "qn-dev", "", "")
	lab.Sh(t, "ip netns exec vm1 busybox udhcpc -i eth0 -n -q -f -t 5 -T 1 -O mtu -s "+script)
	lab.Sh(t, "ip link del vvm1; ip netns del vm1")
	return strings.TrimSpace(lab.Sh(t, "cat "+script+".bound"))
}

// In nat, an MTU larger than the uplink's holds between guests and host. For what
// leaves, the host clamps, fragments, or answers "fragmentation needed". A smaller MTU
// holds for what comes in, too, although a guest does not know it.
func TestMTUBesideTheUplinks(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		n := Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet, MTU: 9000}
		r := mustJoin(t, o, n, "web", port(1))
		if notes := strings.Join(r.Info().Notes, "\n"); !strings.Contains(notes, "mtu 9000 and its uplink eth0 1500") {
			t.Errorf("notes: %q", notes)
		}
		guests(t, n)
		lab.Sh(t, "for g in vm1 vm2; do ip link set v$g mtu 9000; ip -n $g link set eth0 mtu 9000; done")
		const ping = "ip netns exec vm1 ping -n -c 1 -W 2 -s 8972 "
		lab.Sh(t, ping+"-M do 10.77.0.1; "+ping+"-M do 10.77.0.8; "+ping+"-M dont 203.0.113.1")
		if out, err := lab.Try(ping + "-M do 203.0.113.1"); err == nil || !strings.Contains(out, "mtu = 1500") {
			t.Errorf("9000 bytes, not to be fragmented: %v\n%s", err, out)
		}
		upload(t)
		lab.Sh(t, removeGuests)
		mustLeave(t, r)

		n.MTU = 1280
		r = mustJoin(t, o, n, "web", port(1))
		if notes := r.Info().Notes; len(notes) > 0 {
			t.Errorf("there was nothing to tell: %q", notes)
		}
		guests(t, n) // which have 1500
		lab.Sh(t, "for g in vm1 vm2; do ip link set v$g mtu 1280; done")
		download(t)
		lab.Sh(t, removeGuests)
		mustLeave(t, r)
	})
}

// download checks that TCP gets through although no message tells the server the
// smaller MTU.
func download(t *testing.T) {
	t.Helper()
	const deaf = "ip netns exec inet nft "
	lab.Sh(t, deaf+"'table ip deaf { chain in { type filter hook input priority 0; icmp type destination-unreachable drop; }; }'")
	out, err := lab.Try(`head -c 1000000 /dev/zero | ip netns exec inet timeout 9 busybox nc -l -p 9000 & sleep 0.3
sleep 1 | ip netns exec vm1 timeout 5 busybox nc 203.0.113.1 9000 | wc -c; wait`)
	if err != nil || !strings.Contains(out, "1000000") {
		t.Errorf("download: %v\n%s", err, out)
	}
	lab.Sh(t, deaf+"delete table ip deaf")
}

// A bridge that another program gives an MTU too small for IPv6 loses IPv6 and its
// sysctls. The keeper neither mends nor tells that. With the MTU they come back, and the
// keeper turns IPv6 off again.
func TestIPv6StaysOffWhenTheMTUChanges(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		told := &notes{}
		o.Note = told.add
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.HostOnly}, "web", port(1))
		const key = "/proc/sys/net/ipv6/conf/qn-dev/disable_ipv6"
		lab.Sh(t, "ip link set qn-dev mtu 1200; ! test -e "+key)
		time.Sleep(patience * 500 * time.Millisecond) // the mender looks within moments of a change
		if told.count("") > 0 {
			t.Errorf("there was nothing to tell: %q", told.texts)
		}
		lab.Sh(t, "ip link set qn-dev mtu 1500")
		lab.Eventually(t, patience*2*time.Second, "IPv6 off again", func() bool {
			return strings.TrimSpace(lab.Sh(t, "cat "+key)) == "1"
		})
		mustLeave(t, r)
	})
}
