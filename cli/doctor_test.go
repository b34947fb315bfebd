package cli

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/doctor"
	"github.com/qnet-vm/qnet/internal/doctor/probe"
	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/profiles"
)

// examine runs qnet doctor --json and returns its exit code and what it found.
func (l *testHost) examine(args ...string) (int, doctor.Report) {
	l.Helper()
	code, stdout, stderr := l.qnet(append([]string{"doctor", "--json"}, args...)...)
	var r doctor.Report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		l.Fatalf("qnet doctor: %v\n%s\n%s", err, stdout, stderr)
	}
	return code, r
}

// found returns the worst of a check's findings, with the words of all of them.
func found(r doctor.Report, check string) (doctor.Status, string) {
	worst, words := doctor.Pass, ""
	for _, f := range r.Findings {
		if f.Check != check {
			continue
		}
		words += f.Evidence + "\n" + f.Remedy + "\n"
		if f.Status != doctor.Pass && worst != doctor.Fail {
			worst = f.Status
		}
	}
	return worst, words
}

// On a host where everything works, doctor says that no mode fails, and changes nothing.
func TestDoctor(t *testing.T) {
	inLab(t, func(l *testHost) {
		code, r := l.examine()
		if code != 0 || r.CannotWork() || len(r.Modes) != 4 {
			t.Errorf("exit code %d: %+v", code, r)
		}
		for _, c := range doctor.Checks {
			if s, words := found(r, c.Name); words == "" || s == doctor.Fail {
				t.Errorf("%s: %s %s", c.Name, s, words)
			}
		}
		if s, words := found(r, "guests run"); !strings.Contains(words, "KVM") && !strings.Contains(words, "TCG") {
			t.Errorf("guests run: %s %s", s, words)
		}
		l.before.Check(t)
		out := l.must("doctor")
		for _, want := range []string{"CHECK", "nftables", "private: works", "nat: works"} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in\n%s", want, out)
			}
		}
		l.before.Check(t)
	})
}

// The right check finds each thing that is wrong with a host, and names the modes that it
// breaks. With a profile, doctor looks at the profile's modes only.
func TestDoctorFindsFaults(t *testing.T) {
	nat := func(l *testHost) string { return l.profile("n", "[[nic]]\nmode = \"nat\"\n") }
	for name, c := range map[string]struct {
		inject string
		check  string
		status doctor.Status
		words  []string
		code   int // with a nat profile
	}{
		"drop policy of nftables": {
			"nft 'table inet f { chain f { type filter hook forward priority 0; policy drop; }; }'",
			"filters", doctor.Fail,
			[]string{"table inet f", "nft insert rule inet f f"},
			3,
		},
		"drop policy of iptables": {"iptables-nft -P FORWARD DROP", "filters", doctor.Pass, []string{"puts in their chains", "-I FORWARD -i qn-nat"}, 0},
		"no tun": {
			// In a chroot, the running kernel may have no modules, and the remedy is another.
			"mkdir -p /lib/modules; mount -t tmpfs tmpfs /lib/modules; mkdir /lib/modules/$(uname -r); mount -t tmpfs tmpfs /dev/net",
			"tun", doctor.Fail,
			[]string{"no /dev/net/tun", "modprobe tun"},
			3,
		},
		"read-only sysctls": {"mount --bind /proc/sys /proc/sys; mount -o remount,ro,bind /proc/sys", "sysctls", doctor.Fail, []string{"read-only"}, 3},
		"no default route":  {"ip route del default", "uplinks", doctor.Warn, []string{"no default route"}, 0},
		"small MTU":         {"ip link set eth0 mtu 1400", "MTU", doctor.Warn, []string{"eth0 has MTU 1400", "mtu = 1400 in"}, 0},
		"strict rp_filter": {
			"ip link add eth1 type veth peer name lan1; ip addr add 192.0.3.10/24 dev eth1; ip link set eth1 up; sysctl -qw net.ipv4.conf.eth0.rp_filter=1",
			"rp_filter", doctor.Warn,
			[]string{"strict on eth0", "sysctl -w net.ipv4.conf.eth0.rp_filter=2"},
			0,
		},
		"leftovers": {"", "leftovers", doctor.Warn, []string{"network dev", "qnet gc"}, 0},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			inLab(t, func(l *testHost) {
				profile := nat(l)
				if c.inject == "" {
					l.leaveNetwork()
				} else {
					lab.Sh(t, c.inject)
				}
				l.prepared()
				code, r := l.examine(profile)
				if code != c.code || len(r.Modes) != 1 {
					t.Errorf("exit code %d, want %d; modes %v", code, c.code, r.Modes)
				}
				status, words := found(r, c.check)
				if status != c.status {
					t.Errorf("%s: %s, want %s: %s", c.check, status, c.status, words)
				}
				for _, want := range c.words {
					if !strings.Contains(words, want) {
						t.Errorf("%s: no %q in %s", c.check, want, words)
					}
				}
				if c.code == 3 && r.Modes[profiles.NAT] != doctor.Fail {
					t.Errorf("modes: %v", r.Modes)
				}
			})
		})
	}
}

// leaveNetwork makes the run directory of a network whose keeper is dead.
func (l *testHost) leaveNetwork() {
	l.Helper()
	lab.Sh(l, fmt.Sprintf("mkdir -p %s/networks/dev; echo '{}' > %s/networks/dev/journal.json", l.run, l.run))
	l.Cleanup(func() { lab.Try("rm -r " + l.run) })
}

// doctor finds a QEMU that is missing or too old, and does not try its machine.
func TestDoctorWithoutQEMU(t *testing.T) {
	inLab(t, func(l *testHost) {
		old := filepath.Join(l.dir, "old-qemu")
		lab.Sh(t, "printf '#!/bin/sh\necho QEMU emulator version 6.2.0\n' > "+old+"; chmod +x "+old)
		for path, want := range map[string]string{old: "too old", "/nonexistent/qemu": "not found"} {
			l.env = append(l.env, "QNET_QEMU="+path)
			code, r := l.examine()
			if s, words := found(r, "QEMU"); code != 3 || s != doctor.Fail || !strings.Contains(words, want) || !strings.Contains(words, "apt install") {
				t.Errorf("%s: exit code %d, %s: %s", path, code, s, words)
			}
			if s, words := found(r, "guests run"); s == doctor.Pass {
				t.Errorf("guests run: %s %s", s, words)
			}
		}
	})
}

// Without rights, doctor checks what it can, says what it cannot, and fails no mode for
// that.
func TestDoctorWithoutRights(t *testing.T) {
	inLab(t, func(l *testHost) {
		p := l.command("doctor", "--json")
		p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		p.begin()
		code := p.end(60 * time.Second)
		var r doctor.Report
		if err := json.Unmarshal([]byte(p.out.String()), &r); err != nil || code != 0 {
			t.Fatalf("exit code %d: %v\n%s\n%s", code, err, &p.out, &p.errout)
		}
		for _, check := range []string{"bridge", "nftables", "filters"} {
			if s, words := found(r, check); s != doctor.Unseen {
				t.Errorf("%s: %s %s", check, s, words)
			}
		}
		if s, _ := found(r, "QEMU"); s != doctor.Pass {
			t.Errorf("QEMU: %s", s)
		}
	})
}

// A probe by the command line: of a profile's networks, in words and in JSON.
func TestDoctorProbe(t *testing.T) {
	inLab(t, func(l *testHost) {
		profile := l.profile("two", "[[nic]]\nmode = \"nat\"\n[[nic]]\nmode = \"private\"\nnetwork = \"inner\"\n")
		code, stdout, stderr := l.qnet("doctor", "--probe", "--json", "--target", "203.0.113.1:7", profile)
		var reports []probe.Report
		if err := json.Unmarshal([]byte(stdout), &reports); err != nil || len(reports) != 2 || reports[1].Network != "inner" {
			t.Fatalf("exit code %d: %v\n%s\n%s", code, err, stdout, stderr)
		}
		l.before.Check(t)
		lab.Sh(t, "nft 'table inet f { chain f { type filter hook forward priority 0; policy drop; }; }'")
		code, stdout, stderr = l.qnet("doctor", "--probe", "--target", "203.0.113.1:7")
		if code != 3 || !strings.Contains(stdout, "drop at forward: table inet f chain f policy DROP") {
			t.Errorf("exit code %d\n%s\n%s", code, stdout, stderr)
		}
		lab.Sh(t, "nft delete table inet f")
		for _, args := range [][]string{{"--target", "203.0.113.1:7"}, {"--probe", "--target", "203.0.113.1"}, {"--probe", "--target", "203.0.113.1:0"}} {
			if code, _, stderr := l.qnet(append([]string{"doctor"}, args...)...); code != 2 {
				t.Errorf("%v: exit code %d\n%s", args, code, stderr)
			}
		}
	})
}
