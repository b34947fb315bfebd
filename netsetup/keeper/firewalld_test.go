package keeper_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lab/programs"
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/kernel"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/profiles"
)

// besideFirewalld runs the test on a host with a running firewalld, and checks
// afterwards that firewalld and the host are as they were.
func besideFirewalld(t *testing.T, f func(t *testing.T, o Options, fw *programs.FirewalldProgram)) {
	fw := programs.Firewalld()
	lab.Require(t, append(fw.Needs, lab.Tun)...)
	lab.Run(t, func(t *testing.T) {
		lab.Uplink(t)
		fw.Start(t)
		o := labOptions(t)
		host, state := lab.Snapshot(t, o.RunDir), fw.State(t)
		f(t, o, fw)
		sameState(t, "at the end", state, fw.State(t))
		fw.Reload(t) // empty chains, see State
		host.Check(t)
	})
}

func sameState(t *testing.T, when, was, is string) {
	t.Helper()
	if was == is {
		return
	}
	dir := t.TempDir()
	os.WriteFile(dir+"/was", []byte(was), 0o644)
	os.WriteFile(dir+"/is", []byte(is), 0o644)
	out, _ := lab.Try("diff " + dir + "/was " + dir + "/is || true")
	t.Errorf("%s: the state of the other program has changed:\n%s", when, out)
}

// lacks lists what the mode promises and does not pass.
func lacks(n Network) []string {
	var list []string
	check := func(what string, ok bool) {
		if !ok {
			list = append(list, what)
		}
	}
	pings := func(from, to string) bool {
		_, err := lab.Try(from + " ping -n -c 1 -W 0.2 " + to)
		return err == nil
	}
	const vm1 = "ip netns exec vm1"
	check("guest to guest", pings(vm1, "10.77.0.8"))
	if n.Mode == profiles.Private {
		return list
	}
	if n.Mode == profiles.NAT {
		check("outside", pings(vm1, "203.0.113.1"))
	}
	_, err := lab.Try("timeout 0.5 ip netns exec vm1 busybox nslookup -type=a web.qnet 10.77.0.1")
	check("name server", err == nil)
	check("ping to the host", pings(vm1, "10.77.0.1"))
	check("ping from the host", pings("", "10.77.0.9"))
	return list
}

// leaks lists what passes and should not.
func leaks(n Network) []string {
	var list []string
	check := func(what string, passes bool) {
		if passes {
			list = append(list, what)
		}
	}
	if n.Mode != profiles.Private {
		check("port of the host", lab.Fetches("vm1", "10.77.0.1:8081"))
		check("port of the host at another address", lab.Fetches("vm1", "192.0.2.10:8081"))
	}
	if n.Mode != profiles.NAT {
		check("outside", lab.Pings("vm1", "203.0.113.1"))
	}
	check("from outside", lab.Pings("inet", "10.77.0.9"))
	return list
}

func guests(t *testing.T, n Network) {
	t.Helper()
	gateway := "10.77.0.1"
	if n.Mode == profiles.Private {
		gateway = ""
	}
	lab.Guest(t, "vm1", "qn-dev", "10.77.0.9/24", gateway)
	lab.Guest(t, "vm2", "qn-dev", "10.77.0.8/24", gateway)
}

const removeGuests = "for g in vm1 vm2; do ip link del v$g; ip netns del $g; done"

// mustPass waits for what the mode promises: 2 s, F05, and more on a busy machine.
func mustPass(t *testing.T, n Network, when string) {
	t.Helper()
	begin := time.Now()
	missing := lacks(n)
	for ; len(missing) > 0 && time.Since(begin) < patience*2*time.Second; missing = lacks(n) {
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("%s, %s: missing %q after %s", n.Mode, when, missing, time.Since(begin).Round(time.Millisecond))
	if len(missing) > 0 {
		t.Fail()
	}
}

// Beside a firewalld with its defaults, what a mode promises passes, and nothing else,
// also after firewalld reloaded and restarted. At the end firewalld knows nothing of the
// network.
func TestFirewalld(t *testing.T) {
	besideFirewalld(t, func(t *testing.T, o Options, fw *programs.FirewalldProgram) {
		told := &notes{}
		o.Note = told.add
		for _, mode := range []profiles.Mode{profiles.NAT, profiles.HostOnly, profiles.Private} {
			n := Network{Name: "dev", Mode: mode}
			if mode != profiles.Private {
				n.Subnet = subnet
			}
			r := mustJoin(t, o, n, "web", port(1))
			guests(t, n)
			lease := "ip netns exec vm1 busybox udhcpc -i eth0 -n -q -f -t 3 -T 1 -s /bin/true"
			if mode == profiles.Private {
				lease = "true"
			}
			mustPass(t, n, "started")
			if leaks := leaks(n); len(leaks) > 0 {
				t.Errorf("%s: passes: %q", mode, leaks)
			}
			if mode != profiles.Private { // firewalld's owner opens a port
				_, overTCP := tries(t, "vm1", "10.77.0.1:53")
				lab.Sh(t, "firewall-cmd --zone=trusted --add-port=8081/tcp")
				if !overTCP || !lab.Fetches("vm1", "10.77.0.1:8081") {
					t.Errorf("%s: a guest reaches the name server over TCP: %t; nor a port that is open", mode, overTCP)
				}
				lab.Sh(t, "firewall-cmd --zone=trusted --remove-port=8081/tcp")
			}
			lab.Sh(t, lease)
			fw.Reload(t)
			mustPass(t, n, "reloaded")
			fw.Stop()
			fw.Run(t)
			mustPass(t, n, "restarted")
			lab.Sh(t, removeGuests)
			if mode == profiles.NAT {
				if err := fw.Works(t); err != nil {
					t.Error(err)
				}
			}
			mustLeave(t, r)
		}
		if told.count("") > 0 {
			t.Errorf("there was nothing to tell: %q", told.texts)
		}
	})
}

// The next keeper or gc takes back what a dead keeper told firewalld, even without a
// journal.
func TestFirewalldAfterCrash(t *testing.T) {
	besideFirewalld(t, func(t *testing.T, o Options, fw *programs.FirewalldProgram) {
		n := Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}
		bound := func() bool {
			out, _ := lab.Try("firewall-cmd --get-zone-of-interface=qn-dev; firewall-cmd --zone=trusted --list-rich-rules")
			return strings.Contains(out, "trusted") && strings.Contains(out, subnet.String())
		}
		r := mustJoin(t, o, n, "web", port(1))
		unix.Kill(r.Info().KeeperPID, unix.SIGKILL)
		lab.Eventually(t, 15*time.Second, "the next keeper", func() bool {
			infos, err := List(t.Context(), o.RunDir)
			return err == nil && len(infos) == 1 && len(infos[0].VMs) == 1
		})
		if !bound() {
			t.Error("the next keeper's bridge is in no zone")
		}
		mustLeave(t, r)
		if bound() {
			t.Error("the next keeper left the bridge in its zone")
		}
		n.Mode = profiles.HostOnly // of nat, a damaged journal loses the uplink's sysctl
		for _, damaged := range []bool{false, true} {
			r := mustJoin(t, o, n, "web", port(1))
			if !bound() {
				t.Error("the bridge is in no zone")
			}
			killBoth(t, r)
			if damaged {
				for _, older := range firewalld.FormerZoneRules(subnet) {
					lab.Sh(t, "firewall-cmd --zone=trusted --add-rich-rule='"+older+"'")
				}
				os.WriteFile(journalOf(o, "dev"), []byte("{"), 0o644)
			}
			if removed, err := Collect(t.Context(), o); err != nil || len(removed) != 1 {
				t.Errorf("removed %q, %v", removed, err)
			}
			if bound() {
				t.Errorf("gc left the bridge in its zone, journal damaged: %v", damaged)
			}
		}
	})
}

// firewalld may start while the network runs, and may be locked down. A bridge that the
// administrator put into a zone stays there.
func TestFirewalldChanges(t *testing.T) {
	besideFirewalld(t, func(t *testing.T, o Options, fw *programs.FirewalldProgram) {
		n := Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}
		fw.Stop()
		told := &notes{}
		o.Note = told.add
		r := mustJoin(t, o, n, "web", port(1))
		guests(t, n)
		fw.Run(t)
		mustPass(t, n, "firewalld started")

		os.WriteFile("/etc/firewalld/lockdown-whitelist.xml",
			[]byte(`<whitelist><command name="/usr/bin/python3 /usr/bin/firewall-cmd*"/></whitelist>`), 0o644)
		lab.Sh(t, "cd /etc/firewalld; cp firewalld.conf firewalld.conf.was; echo Lockdown=yes >> firewalld.conf; firewall-cmd --reload")
		lab.Eventually(t, patience*2*time.Second, "word of the refusal", func() bool {
			return told.count("firewall-cmd --zone=trusted --add-interface=qn-dev") == 1
		})
		lab.Sh(t, "firewall-cmd --lockdown-off")
		mustPass(t, n, "no longer locked down")
		lab.Sh(t, removeGuests)
		mustLeave(t, r)
		lab.Sh(t, "rm /etc/firewalld/lockdown-whitelist.xml; mv /etc/firewalld/firewalld.conf.was /etc/firewalld/firewalld.conf; firewall-cmd --reload")

		lab.Sh(t, "firewall-cmd --zone=work --add-interface=qn-dev")
		r = mustJoin(t, o, n, "web", port(1))
		time.Sleep(settleInterval * 3) // for what should not happen
		mustLeave(t, r)
		lab.Sh(t, "firewall-cmd --get-zone-of-interface=qn-dev | grep work; firewall-cmd --zone=work --remove-interface=qn-dev")
	})
}

// The keeper ignores a firewalld of another network namespace: its links are others.
func TestFirewalldOfAnotherNamespace(t *testing.T) {
	besideFirewalld(t, func(t *testing.T, _ Options, fw *programs.FirewalldProgram) {
		was := fw.State(t)
		zone := firewalld.Zone{Name: "trusted", Link: "qn-dev"}
		lab.InNamespace(t, "inet", func() error {
			state, err := firewalld.Observe(t.Context())
			if state.Running {
				t.Error("it runs in another namespace, too")
			}
			return errors.Join(err, firewalld.Add(t.Context(), zone))
		})
		sameState(t, "told from another namespace", was, fw.State(t))
	})
}

// The printed commands do what the calls do.
func TestFirewalldCommands(t *testing.T) {
	besideFirewalld(t, func(t *testing.T, _ Options, fw *programs.FirewalldProgram) {
		state, err := firewalld.Observe(t.Context())
		if err != nil || !state.Running || state.Default != "public" {
			t.Fatalf("got %+v, %v", state, err)
		}
		plan, err := plan.New(Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet},
			host.Facts{Firewalld: state}, plan.Options{Salt: []byte("salt")})
		zone, ok := step.Find[step.SetZone](plan.Steps)
		if err != nil || !ok {
			t.Fatalf("got %+v, %v", plan.Steps, err)
		}
		host := &kernel.Host{}
		if err := zone.Do(t.Context(), host.Kernel()); err != nil {
			t.Fatal(err)
		}
		called := fw.State(t)
		if holds, err := zone.Holds(t.Context(), host.Kernel()); !holds || err != nil {
			t.Errorf("holds: %v, %v", holds, err)
		}
		if err := zone.Undo(t.Context(), host.Kernel()); err != nil {
			t.Fatal(err)
		}
		if holds, err := zone.Holds(t.Context(), host.Kernel()); holds || err != nil {
			t.Errorf("holds after the undo: %v, %v", holds, err)
		}
		lab.Sh(t, zone.String())
		sameState(t, "by commands", called, fw.State(t))
		lab.Sh(t, zone.UndoString())
	})
}
