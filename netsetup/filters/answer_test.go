package filters

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/profiles"
)

// iptablesTable is the table filter of iptables-nft with a chain for each hook.
func iptablesTable(e Engine, rules ...Rule) Ruleset {
	t := Table{Engine: e, Family: nft.IP, Name: "filter", Chains: []Chain{
		{Name: "FORWARD", Type: "filter", Hook: nft.Forward, Policy: Discard, Rules: rules},
		{Name: "DOCKER-USER"},
	}}
	return Ruleset{Tables: []Table{t}, Programs: Programs{e: {nft.IP: "/sbin/" + string(e)}}}
}

func nat() Promise {
	return Promise{
		Name: "dev", Mode: profiles.NAT, Bridge: "qn-dev", Uplinks: []string{"eth0"},
		Prefix: netip.MustParsePrefix("192.168.223.0/24"), Gateway: netip.MustParseAddr("192.168.223.1"),
	}
}

// commands are the accepts of the answers, or what the user reads.
func commands(answers []Answer) string {
	var list []string
	for _, a := range answers {
		for _, rule := range a.Accepts {
			list = append(list, rule.Command("-I"))
		}
		if text := a.String(); text != "" {
			list = append(list, text)
		}
	}
	return strings.Join(list, "\n")
}

// An accept goes where the owner of the drop wants it and only where it helps; without
// the owner's program, the user is to run it.
func TestAnswers(t *testing.T) {
	toOwner := Rule{Verdict: Jump, Chain: "DOCKER-USER", Text: "-A FORWARD -j DOCKER-USER"}
	dropFirst := Rule{Verdict: Discard, Text: "-A FORWARD -j DROP"}
	without := iptablesTable(IPTablesNFT, toOwner)
	without.Programs = nil
	mangle := iptablesTable(IPTablesNFT)
	mangle.Tables[0].Name = "mangle"
	twoWays := `iptables-nft -w 10 -t filter -I %[1]s -i qn-dev -m comment --comment "qnet:dev" -j ACCEPT
iptables-nft -w 10 -t filter -I %[1]s -o qn-dev -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment "qnet:dev" -j ACCEPT`
	for name, c := range map[string]struct {
		r    Ruleset
		want string
	}{
		"the owner's chain":            {iptablesTable(IPTablesNFT, toOwner), fmt.Sprintf(twoWays, "DOCKER-USER")},
		"nothing leads there":          {iptablesTable(IPTablesNFT), fmt.Sprintf(twoWays, "FORWARD")},
		"a drop comes before":          {iptablesTable(IPTablesNFT, dropFirst, toOwner), fmt.Sprintf(twoWays, "FORWARD")},
		"iptables-legacy":              {iptablesTable(IPTablesLegacy, toOwner), strings.ReplaceAll(fmt.Sprintf(twoWays, "DOCKER-USER"), "-nft", "-legacy")},
		"no program for it is here":    {without, "Docker (iptables-nft, table ip filter, chain FORWARD, policy drop) drops what guests send to the outside and what the outside answers guests; qnet does not edit its rules: to let it pass, run `iptables-nft -w 10 -t filter -I FORWARD -i qn-dev -m comment --comment \"qnet:dev\" -j ACCEPT` and `iptables-nft -w 10 -t filter -I FORWARD -o qn-dev -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment \"qnet:dev\" -j ACCEPT`"},
		"not in the table of marks":    {mangle, "a policy of iptables-nft (iptables-nft, table ip mangle, chain FORWARD, policy drop) drops what guests send to the outside and what the outside answers guests; qnet does not edit its rules: to let it pass, run `iptables-nft -w 10 -t mangle -I FORWARD -i qn-dev -m comment --comment \"qnet:dev\" -j ACCEPT` and `iptables-nft -w 10 -t mangle -I FORWARD -o qn-dev -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment \"qnet:dev\" -j ACCEPT`"},
		"a rule that may drop is none": {iptablesTable(IPTablesNFT, Rule{Verdict: Discard, Matches: []Match{{}}}, Rule{Verdict: Accept}), ""},
	} {
		if got := commands(c.r.Answers(nat())); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, c.want)
		}
	}
}

// The network's own accepts in a snapshot change nothing about the answers, and are
// found again by their mark.
func TestOwnAccepts(t *testing.T) {
	r := iptablesTable(IPTablesNFT, Rule{Verdict: Jump, Chain: "DOCKER-USER", Text: "-A FORWARD -j DOCKER-USER"})
	before := r.Answers(nat())
	for _, a := range before {
		for _, rule := range a.Accepts {
			c := r.Tables[0].Chain(rule.Chain)
			c.Rules = append(c.Rules, Rule{Verdict: Accept, Comment: Mark("dev"), Text: rule.Text()})
			if n := r.Count(rule); n != 1 {
				t.Errorf("%s: counted %d times", rule.Text(), n)
			}
		}
	}
	if after := r.Answers(nat()); !reflect.DeepEqual(before, after) {
		t.Errorf("got\n%s\nwant\n%s", commands(after), commands(before))
	}
	marked := r.Marked("dev")
	if len(marked) != 2 || marked[0].Spec != before[0].Accepts[0].Spec || len(r.Marked("other")) != 0 {
		t.Errorf("marked: %+v", marked)
	}
	want := []string{"-w", "10", "-t", "filter", "-D", "DOCKER-USER", "-i", "qn-dev", "-m", "comment", "--comment", "qnet:dev", "-j", "ACCEPT"}
	if got := marked[0].Args("-D"); !reflect.DeepEqual(got, want) {
		t.Errorf("arguments: %q", got)
	}
}

// On a bridge of another program only the traffic of qnet's taps is let pass.
func TestJoinedBridge(t *testing.T) {
	n := Promise{Name: "lan", Mode: profiles.Bridge, Bridge: "br0", Uplinks: []string{"eth0"}, Joined: true}
	r := iptablesTable(IPTablesNFT)
	r.BridgeIPv4 = true
	want := `iptables-nft -w 10 -t filter -I FORWARD -i br0 -o br0 -m physdev --physdev-in qn+ --physdev-is-bridged -m comment --comment "qnet:lan" -j ACCEPT
iptables-nft -w 10 -t filter -I FORWARD -i br0 -o br0 -m physdev --physdev-out qn+ --physdev-is-bridged -m comment --comment "qnet:lan" -j ACCEPT`
	if got := commands(r.Answers(n)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// firewalld accepts a bridge in a zone by itself; otherwise the user has a command.
func TestFirewalld(t *testing.T) {
	r := chains(Discard, map[string][]Rule{"forward": nil})
	r.Tables[0].Name = "firewalld"
	n := nat()
	n.Zoned = true
	if got := r.Answers(n); len(got) != 0 {
		t.Errorf("in a zone: %s", commands(got))
	}
	n.Zoned = false
	if got := commands(r.Answers(n)); !strings.HasSuffix(got, "run `firewall-cmd --zone=trusted --change-interface=qn-dev`") {
		t.Errorf("in none: %s", got)
	}
	n.Joined = true
	if got := commands(r.Answers(n)); !strings.HasSuffix(got, "run `firewall-cmd --add-interface=qn-dev`") {
		t.Errorf("another's bridge: %s", got)
	}
}

// A remedy is for copying, or ends a sentence.
func TestRemedy(t *testing.T) {
	for _, c := range []struct {
		remedy         Remedy
		text, sentence string
	}{
		{Remedy{Commands: []string{"nft a", "nft b"}}, "nft a and nft b", "qnet does not edit its rules: to let it pass, run `nft a` and `nft b`"},
		{Remedy{Commands: []string{"ebtables a"}, Advice: "with b"}, "ebtables a with b", "qnet does not edit its rules: to let it pass, run `ebtables a` with b"},
		{Remedy{Advice: "allow local networks"}, "allow local networks", "allow local networks"},
	} {
		if c.remedy.String() != c.text || c.remedy.Sentence() != c.sentence {
			t.Errorf("got %q and %q", c.remedy, c.remedy.Sentence())
		}
	}
}

// A firewall that keeps guests from the host's services is named, with the command that opens a
// port. The network's own accepts open none.
func TestClosedTo(t *testing.T) {
	input := func(e Engine, policy Verdict, rules ...Rule) Ruleset {
		return Ruleset{Tables: []Table{{Engine: e, Family: nft.IP, Name: "filter", Chains: []Chain{
			{Name: "INPUT", Type: "filter", Hook: nft.Input, Policy: policy, Rules: rules}, {Name: "ufw-user-input"},
		}}}}
	}
	ours := Rule{Verdict: Accept, Comment: Mark("dev"), Text: "-A INPUT -j ACCEPT"}
	ufw := Rule{Verdict: Jump, Chain: "ufw-user-input", Text: "-A INPUT -j ufw-user-input"}
	port := Rule{Verdict: Accept, Matches: Traffic{Proto: TCP, Port: service}.matches(nft.IP)}
	zoned, lan := nat(), nat()
	zoned.Zoned, lan.Mode = true, profiles.Bridge
	for name, c := range map[string]struct {
		r    Ruleset
		n    Promise
		want string
	}{
		"nothing drops": {input(IPTablesNFT, Accept), nat(), " "},
		"ufw":           {input(IPTablesNFT, Discard, ufw), nat(), "ufw ufw allow in on qn-dev to any port N"},
		"a policy":      {input(IPTablesLegacy, Discard, ours), nat(), "a policy of iptables-legacy iptables-legacy -w 10 -t filter -I INPUT -i qn-dev -p tcp --dport N -j ACCEPT"},
		"nft":           {input(NFTables, Discard), nat(), `a ruleset of nft, such as /etc/nftables.conf nft insert rule ip filter INPUT iifname "qn-dev" tcp dport N accept`},
		"an open port":  {input(NFTables, Discard, port), nat(), " "},
		"firewalld":     {Ruleset{}, zoned, "firewalld firewall-cmd --zone=trusted --add-port=N/tcp"},
		"a LAN":         {input(NFTables, Discard), lan, " "},
	} {
		if program, open := c.r.ClosedTo(c.n); program+" "+open != c.want {
			t.Errorf("%s: got %q and %q, want %q", name, program, open, c.want)
		}
	}
}
