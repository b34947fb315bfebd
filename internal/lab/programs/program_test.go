package programs

import (
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/profiles"
)

// Several programs at once start and reload in their order, and have the state, the
// needs and the refusals of all.
func TestTogether(t *testing.T) {
	var did []string
	program := func(name, refuses string) Program {
		do := func(what string) func(testing.TB) {
			return func(testing.TB) { did = append(did, what+" "+name) }
		}
		return Program{
			Name: name, Needs: []lab.Need{{Name: name}}, Start: do("start"), Reload: do("reload"),
			Works: func(testing.TB) error { return nil }, State: func(testing.TB) string { return name + "\n" },
			Version: func() string { return name + " 1" }, Refuses: func(profiles.Mode) string { return refuses },
		}
	}
	both := Together(program("a", ""), program("b", "no"))
	both.Start(t)
	both.Reload(t)
	if got := strings.Join(did, ", "); got != "start a, start b, reload a, reload b" {
		t.Errorf("did %s", got)
	}
	if both.Name != "a and b" || len(both.Needs) != 2 || both.State(t) != "a\nb\n" || both.Version() != "a 1, b 1" || both.Refuses(profiles.NAT) != "no" {
		t.Errorf("got %+v", both)
	}
	if err := both.Works(t); err != nil {
		t.Error(err)
	}
}

// The chains of a zone that firewalld no longer uses are no part of its state.
func TestReachable(t *testing.T) {
	const used = `table inet firewalld {
	chain filter_INPUT {
		type filter hook input priority filter + 10; policy accept;
		jump filter_IN_public
	}

	chain filter_IN_public {
		goto filter_IN_public_allow
	}

	chain filter_IN_public_allow {
		tcp dport 22 accept
	}`
	const unused = `

	chain filter_IN_old {
		jump filter_IN_old_allow
	}

	chain filter_IN_old_allow {
	}
}
`
	if got := reachable(used + unused); got != used {
		t.Errorf("got\n%s\nwant\n%s", got, used)
	}
}

// Every program has all its functions, and a name of its own.
func TestComplete(t *testing.T) {
	list := []Program{Docker(), UFW(), Firewalld().Program, IPTables("nft"), IPTables("legacy"), NFTables(), Libvirt()}
	for _, name := range VPNs() {
		list = append(list, VPN(name))
	}
	names := map[string]bool{}
	for _, p := range list {
		if p.Start == nil || p.Reload == nil || p.Works == nil || p.State == nil || p.Version == nil || p.Refuses == nil || len(p.Needs) == 0 {
			t.Errorf("%s lacks a function", p.Name)
		}
		if p.Name == "" || names[p.Name] {
			t.Errorf("two programs are named %q", p.Name)
		}
		names[p.Name] = true
	}
}

// The programs that need nothing but namespaces do their job there, keep doing it after a
// reload, and have the same state then.
func TestAlone(t *testing.T) {
	for _, p := range []Program{NFTables(), IPTables("nft"), VPN("two /1 routes"), VPN("policy rules")} {
		t.Run(strings.NewReplacer(" ", "_", "/", "").Replace(p.Name), func(t *testing.T) {
			lab.Require(t, p.Needs...)
			lab.Run(t, func(t *testing.T) {
				lab.Uplink(t)
				p.Start(t)
				if err := p.Works(t); err != nil {
					t.Error(err)
				}
				before := p.State(t)
				p.Reload(t)
				if err := p.Works(t); err != nil {
					t.Errorf("after a reload: %v", err)
				}
				if after := p.State(t); after != before {
					t.Errorf("the state was\n%s\nand is\n%s", before, after)
				}
				t.Log(p.Version())
			})
		})
	}
}

// Each kill-switch drops what the host sends outside the tunnel.
func TestKillSwitches(t *testing.T) {
	for i, k := range KillSwitches {
		t.Run(strings.ReplaceAll(k.Program, " ", "_")+string(rune('0'+i)), func(t *testing.T) {
			lab.Require(t, KillSwitchNeeds...)
			lab.Run(t, func(t *testing.T) {
				lab.Uplink(t)
				lab.Sh(t, k.Script)
				if lab.Pings("", "203.0.113.1") {
					t.Error("the host reaches the outside without the tunnel")
				}
			})
		})
	}
}
