package kernel

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/resolved"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// journalled returns the steps as the journal has them.
func journalled(t *testing.T, steps step.List) step.List {
	t.Helper()
	raw, err := json.Marshal(steps)
	var read step.List
	if err == nil {
		err = json.Unmarshal(raw, &read)
	}
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// While the bridge has the host's addresses, systemd-resolved has the NIC's settings for the
// bridge. The host resolves names all the time, and in the end systemd-resolved is as before.
func TestMoveTakesDNSAlong(t *testing.T) {
	lab.Run(t, func(t *testing.T) {
		lab.Require(t, lab.Program("dnsmasq"))
		lan := lab.NewLAN(t, lab.LANOptions{Static: true})
		lan.Daemon("gateway", "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--group=", "--pid-file=", "--no-resolv", "--no-hosts",
			"--bind-interfaces", "--interface=eth0", "--address=/lan.example/192.0.2.77", "--address=/none.example/")
		lab.Resolved(t)
		lab.Sh(t, `
resolvectl dns eth0 192.0.2.1 192.0.2.1:5353#dns.example
resolvectl domain eth0 lan.example '~corp.example'
resolvectl default-route eth0 yes
resolvectl llmnr eth0 resolve
resolvectl nta eth0 test.example`)
		names := 0
		resolves := func() bool { // each time another name, which no cache has
			names++
			out, err := lab.Try(fmt.Sprintf("timeout 2 busybox nslookup -type=a n%d.lan.example 127.0.0.53", names))
			return err == nil && strings.Contains(out, "192.0.2.77")
		}
		lab.Eventually(t, 10*time.Second, "a name before", resolves)
		host := newHost(t)
		of := func(link string) []string {
			l, _, _ := host.Link(t.Context(), link)
			s, err := resolved.Observe(t.Context(), l.Index)
			if err != nil {
				t.Fatal(err)
			}
			return s.Commands("LINK")
		}
		state := func() string {
			return lab.Sh(t, "find /run/systemd/resolve -type f | sort; cat /run/systemd/resolve/resolv.conf /run/systemd/resolve/netif/2")
		}
		told, before, snapshot := of("eth0"), state(), lab.Snapshot(t)
		if len(told) != 5 {
			t.Errorf("told of eth0: %q", told)
		}
		p := lanPlan(t)
		i := slices.IndexFunc(p.Steps, func(s step.Step) bool { _, is := s.(step.LinkDNS); return is })
		if i < 0 {
			t.Fatal("no step for systemd-resolved")
		}
		if err := apply.Do(t.Context(), host.Kernel(), p.Steps, nil); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if !resolves() {
				t.Error("the host does not resolve names by the bridge")
			}
		}
		if now := of(p.Bridge); !slices.Equal(now, told) {
			t.Errorf("of the bridge: %q\nof eth0: %q", now, told)
		}
		if now := of("eth0"); now != nil {
			t.Errorf("of eth0 still: %q", now)
		}
		begin := time.Now()
		if out, err := lab.Try("timeout 5 busybox nslookup -type=a a.none.example 127.0.0.53"); err == nil || time.Since(begin) > time.Second {
			t.Errorf("a name that does not exist: %v after %s\n%s", err, time.Since(begin), out)
		}
		if err := apply.Undo(t.Context(), host.Kernel(), journalled(t, p.Steps)); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if !resolves() {
				t.Error("the host does not resolve names afterwards")
			}
		}
		if after := state(); after != before {
			t.Errorf("systemd-resolved has\n%s\nand had\n%s", after, before)
		}
		snapshot.Check(t)

		// What the plan prints does the same.
		lab.Sh(t, "ip link add qn-lan type bridge")
		lab.Eventually(t, 5*time.Second, "the link", func() bool { _, err := lab.Try("resolvectl status qn-lan"); return err == nil })
		lab.Sh(t, p.Steps[i].String())
		if now := of("qn-lan"); !slices.Equal(now, told) {
			t.Errorf("by the commands: %q\nof eth0: %q", now, told)
		}
		lab.Sh(t, "ip link del qn-lan")
	})
}

// A NIC without settings in systemd-resolved needs no step, nor does a host
// without systemd-resolved.
func TestMoveWithoutDNS(t *testing.T) {
	lab.Run(t, func(t *testing.T) {
		lab.NewLAN(t, lab.LANOptions{Static: true})
		none := func(words string) {
			t.Helper()
			for _, s := range lanPlan(t).Steps {
				if dns, is := s.(step.LinkDNS); is {
					t.Errorf("%s: %s", words, dns)
				}
			}
		}
		none("without systemd-resolved")
		lab.Resolved(t)
		none("told nothing")
	})
}
