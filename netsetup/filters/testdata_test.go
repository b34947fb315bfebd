package filters_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/profiles"
)

// update writes the tables of TestTables anew, for a reader to compare:
//
//	go test ./netsetup/filters -run TestTables -update
var update = flag.Bool("update", false, "write testdata/*.txt anew")

// modes that make a network.
var modes = []profiles.Mode{profiles.Private, profiles.HostOnly, profiles.NAT, profiles.Bridge}

// network is a network of a mode, with the uplink eth0.
func network(m profiles.Mode) filters.Promise {
	n := filters.Promise{Name: "dev", Mode: m, Bridge: "qn-dev", Uplinks: []string{"eth0"}}
	if m.HasSubnet() {
		n.Prefix, n.Gateway = netip.MustParsePrefix("192.168.223.0/24"), netip.MustParseAddr("192.168.223.1")
	}
	return n
}

// ruleset is a ruleset of a real program, which TestCapture of package read captured.
func ruleset(t testing.TB, name string) (r filters.Ruleset) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// For each captured ruleset testdata has a table: for each mode the packets that it
// drops, with the rule or policy, then what lets them pass.
func TestTables(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no rulesets in testdata")
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			got := table(ruleset(t, name))
			page := strings.TrimSuffix(file, ".json") + ".txt"
			if *update {
				if err := os.WriteFile(page, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func table(r filters.Ruleset) string {
	var b strings.Builder
	part := func(title string, calls bool, modes ...profiles.Mode) {
		r.BridgeIPv4, r.BridgeIPv6 = calls, calls
		for _, m := range modes {
			if text := answers(r, network(m)); text != "" {
				fmt.Fprintf(&b, "mode %s%s\n%s\n", m, title, text)
			}
		}
	}
	part("", false, modes...)
	part(", with br_netfilter", true, profiles.Private, profiles.Bridge)
	if b.Len() == 0 {
		return "drops nothing in any mode\n"
	}
	return b.String()
}

// answers are the drops of a network's packets and the answers to them, as text.
func answers(r filters.Ruleset, n filters.Promise) string {
	var b strings.Builder
	for _, p := range r.Packets(n) {
		for _, d := range r.Drops(p) {
			fmt.Fprintf(&b, "  %s: %s\n", d.PacketText(), dropText(d))
		}
	}
	for _, a := range r.Answers(n) {
		for _, rule := range a.Accepts {
			fmt.Fprintf(&b, "  -> qnet runs: %s\n", rule.Command("-I"))
		}
		if text := a.String(); text != "" {
			fmt.Fprintf(&b, "  -> the user reads: %s\n", text)
		}
	}
	return b.String()
}

// dropText is a drop in one line.
func dropText(d filters.Drop) string {
	what := "the policy"
	if !d.Policy() {
		what = fmt.Sprintf("rule %q", d.Rule)
	}
	text := fmt.Sprintf("%s of %s, %s %s %s", what, d.Program, d.Engine, d.Family, d.Chain)
	if d.May != "" {
		text += ", may drop: " + d.May
	}
	if d.Unless != "" {
		text += fmt.Sprintf(", unless %q accepts", d.Unless)
	}
	return text
}
