package cli

import (
	"strings"
	"testing"
)

// The MTU of a network reaches guests without a DHCP client, also those whose profile does
// not name the MTU. Their packets of that size arrive whole, and so does TCP.
func TestMTU(t *testing.T) {
	inLab(t, func(l *testHost) {
		// As under sudo: QEMU may be launched again when the rights are given up.
		l.env = append(l.env, "SUDO_UID=54321", "SUDO_GID=54321")
		const backend = "[[nic]]\nmode = \"private\"\nnetwork = \"backend\"\n"
		const small = "[[nic]]\nmode = \"host-only\"\n"
		const mtu = "[network.backend]\nmtu = 9000\n[network.host-only]\nmtu = 1200\n"
		profile := vm(l, "a", "qnet.net0=10.55.0.1/24 qnet.net1=up qnet.httpd qnet.shell") + backend + small + mtu
		plan := l.must("plan", l.profile("plan", profile))
		for _, want := range []string{
			"mtu 9000 type bridge", "ip link set qna0 mtu 9000", "mtu 1200 type bridge", "ip link set qna1 mtu 1200",
			`"host_mtu":9000,"id":"nic0"`, `"host_mtu":1200,"id":"nic1"`,
		} {
			if !strings.Contains(plan, want) {
				t.Errorf("no %q in the plan:\n%s", want, plan)
			}
		}
		a := l.boot("a", profile)
		b := l.boot("b", vm(l, "b", "qnet.net0=10.55.0.2/24 qnet.net1=up qnet.shell")+backend+small)
		for _, g := range []*console{a, b} {
			if out := g.must("cat /sys/class/net/eth0/mtu /sys/class/net/eth1/mtu"); strings.Join(strings.Fields(out), " ") != "9000 1200" {
				t.Errorf("%s: MTU %q, want 9000 and 1200", g.name, out)
			}
		}
		b.must("ping -c 1 -W 2 -s 8972 10.55.0.1")
		a.must("head -c 3000000 /dev/zero > /www/zero")
		if out := b.must("wget -q -O - http://10.55.0.1/zero | wc -c"); !strings.Contains(out, "3000000") {
			t.Errorf("TCP: %q bytes, want 3000000", out)
		}
		// The last two numbers are FragFails and FragCreates.
		if out := b.must("grep '^Ip: [0-9]' /proc/net/snmp"); !strings.HasSuffix(strings.TrimSpace(out), " 0 0") {
			t.Errorf("packets were fragmented: %s", out)
		}
		b.must("until ip -6 addr show dev eth0 | grep -q fe80; do sleep 0.1; done")
		b.fails("IPv6 below 1280 bytes", "ip -6 addr show dev eth1 | grep fe80")
		l.refused(3, []string{`VM "c" wants network "backend" with mtu 1400, VMs [a b] run it with 9000`},
			"run", l.profile("c", vm(l, "c", "")+backend+"[network.backend]\nmtu = 1400\n"))
		l.must("stop", "--force", "a")
		l.must("stop", "--force", "b")
		l.before.Check(t)
	})
}
