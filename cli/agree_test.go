package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/doctor"
	"github.com/qnet-vm/qnet/internal/lab"
)

// told reports whether doctor says what a warning of a run says: words of one may stand
// around those of the other.
func told(r doctor.Report, warning string) bool {
	one := func(s string) string { return strings.Join(strings.Fields(strings.ReplaceAll(s, "`", "")), " ") }
	return slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool {
		return f.Status != doctor.Pass && (strings.Contains(one(warning), one(f.Evidence)) || strings.Contains(one(f.Evidence), one(warning)))
	})
}

// notPlanned are the checks that are not about a network's plan: what machines are like differs.
var notPlanned = []string{"QEMU", "guests run", "confinement", "limits", "nftables", "resolver", "uplinks", "MTU", "conntrack", "port 53"}

// agree runs a profile and compares what the run warns of, "" for nothing, with what doctor
// and the plan say before.
func (l *testHost) agree(name, path, want string) {
	l.Helper()
	_, r := l.examine(path)
	plan := l.must("plan", path)
	code, _, talk := l.qnet("run", "-d", path)
	switch {
	case code == 0:
		l.must("stop", "--force", "vm")
	case strings.Contains(talk, "macvtap link is not there"):
		l.Logf("%s: /dev has no device of it", name)
		return
	default:
		l.Errorf("%s: exit code %d\n%s", name, code, talk)
	}
	warned := false
	for line := range strings.Lines(talk) {
		warning, is := strings.CutPrefix(strings.TrimSpace(line), "warning: ")
		if !is {
			continue
		}
		warned = true
		if want == "" || !strings.Contains(warning, want) {
			l.Errorf("%s: the run warns of %q, want %q", name, warning, want)
		}
		if !told(r, warning) {
			l.Errorf("%s: doctor does not say %q: %+v", name, warning, r.Findings)
		}
		if !strings.Contains(plan, "# note: "+warning) {
			l.Errorf("%s: the plan does not say %q:\n%s", name, warning, plan)
		}
	}
	if warned != (want != "") {
		l.Errorf("%s: the run warns: %t, want %q\n%s", name, warned, want, talk)
	}
	for _, f := range r.Findings {
		if want == "" && f.Status != doctor.Pass && !slices.Contains(notPlanned, f.Check) {
			l.Errorf("%s: doctor warns and the run does not: %+v", name, f)
		}
	}
}

// Whatever the host is like, doctor says before a run what the run warns of, and qnet plan
// notes, from the same plan; where neither warns, no check about networks does.
func TestDoctorAgreesWithTheRun(t *testing.T) {
	inLab(t, func(l *testHost) {
		const nat = "[[nic]]\nmode = \"nat\"\n"
		for name, c := range map[string]struct {
			before, after string // commands around
			nic           string
			warning       string // a part of the run's only warning, "" for none
		}{
			"nothing": {nic: nat},
			"a drop": {
				"nft 'table inet f { chain c { type filter hook forward priority 0; policy drop; }; }'", "nft delete table inet f",
				nat, "drops what guests send to the outside",
			},
			"iptables, which a run puts right": {"iptables-nft -P FORWARD DROP", "nft delete table ip filter", nat, ""},
			"no tracking": {
				"nft 'table inet r { chain c { type filter hook prerouting priority raw; notrack; }; }'", "nft delete table inet r",
				nat, "keeps what guests send to the outside",
			},
			"no tracking of names": {
				"nft 'table inet r { chain c { type filter hook prerouting priority raw; udp dport 53 notrack; }; }'", "nft delete table inet r",
				nat, "keeps what guests ask name servers outside from being tracked",
			},
			"no tracking of others": {
				"nft 'table inet r { chain c { type filter hook output priority raw; notrack; }; }'", "nft delete table inet r", nat, "",
			},
			"no tracking, nothing masqueraded": {
				"nft 'table inet r { chain c { type filter hook prerouting priority raw; notrack; }; }'", "nft delete table inet r",
				"[[nic]]\nmode = \"host-only\"\n", "",
			},
			"an MTU that the uplink has not": {"", "", nat + "[network.nat]\nmtu = 9000\n", "mtu 9000"},
			"a network of libvirt": {
				"mkdir -p /etc/libvirt/qemu/networks; mount -t tmpfs none /etc/libvirt/qemu/networks; " +
					"echo '<network><name>default</name><ip address=\"192.168.122.1\" netmask=\"255.255.255.0\"/></network>' > /etc/libvirt/qemu/networks/default.xml",
				"umount /etc/libvirt/qemu/networks; rmdir -p --ignore-fail-on-non-empty /etc/libvirt/qemu/networks",
				nat + "[network.nat]\nsubnet = \"192.168.122.0/24\"\n", `is also that of the network "default" of libvirt`,
			},
			"macvtap": {"", "", "[[nic]]\nmode = \"bridge\"\n[network.bridge]\nmacvtap = true\n", "this host and its VMs do not reach each other"},
		} {
			t.Log(name)
			if c.before != "" {
				lab.Sh(t, c.before)
			}
			l.agree(name, l.profile("vm", idle+c.nic), c.warning)
			if c.after != "" {
				lab.Sh(t, c.after)
			}
		}
	})
}
