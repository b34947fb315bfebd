package programs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab/programs"
)

// neighbours are all that the matrix tries.
func neighbours() []programs.Neighbour {
	return []programs.Neighbour{
		programs.Docker(),
		programs.UFW(),
		programs.Together(programs.UFW(), programs.Docker()),
		programs.Firewalld().Neighbour,
		programs.IPTables("nft"),
		programs.IPTables("legacy"),
		programs.NFTables(),
		programs.Libvirt(),
		programs.Together(programs.UFW(), programs.Docker(), programs.Libvirt()),
		programs.VPN("two /1 routes"),
		programs.VPN("policy rules"),
		programs.Together(programs.Firewalld().Neighbour, programs.Docker()),
		programs.Together(programs.Firewalld().Neighbour, programs.Libvirt()),
		programs.Together(programs.VPN("policy rules"), programs.Docker()),
	}
}

// orders in which qnet and the other meet.
var orders = []string{"other first", "qnet first", "reload"}

const page = "../../../docs/coexistence.md"

// TestCoexist is `make coexist`: every mode beside every neighbour in every order,
// written to docs/coexistence.md.
func TestCoexist(t *testing.T) {
	if os.Getenv("QNET_COEXIST") == "" {
		t.Skip("make coexist runs it")
	}
	inside := os.Getenv("QNET_NSTEST_INSIDE") != ""
	if os.Getenv(resultsEnv) == "" { // else a file that keeps the results of several runs
		t.Setenv(resultsEnv, filepath.Join(t.TempDir(), "results"))
	}
	for _, n := range neighbours() {
		for _, order := range orders {
			t.Run(strings.NewReplacer(" ", "_", "/", "").Replace(n.Name)+"/"+order, func(t *testing.T) { try(t, n, order) })
		}
	}
	if inside {
		return
	}
	text := table(t)
	t.Log("\n" + text)
	if t.Failed() {
		return
	}
	if err := os.WriteFile(page, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// table is the page.
func table(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(os.Getenv(resultsEnv))
	if err != nil {
		t.Fatal(err)
	}
	cells := map[string]string{} // by neighbour, order and mode
	counts := map[string]int{}
	versions := map[string]string{}
	slowest := 0
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSpace(line), "|")
		text := f[3]
		counts[text]++
		if ms, _ := strconv.Atoi(f[4]); f[3] != "told" && f[1] != "other first" {
			text += fmt.Sprintf(", %.1f s", float64(ms)/1000)
			slowest = max(slowest, ms)
		}
		cells[f[0]+"|"+f[1]+"|"+f[2]] = text
		versions[f[0]] = f[5]
	}
	var out strings.Builder
	fmt.Fprintf(&out, intro, counts["untouched"]+counts["accepts"]+counts["zone"]+counts["told"], counts["untouched"], counts["accepts"], counts["zone"], counts["told"], float64(slowest)/1000)
	for _, n := range neighbours() {
		for _, order := range orders {
			fmt.Fprintf(&out, "| %s | %s |", n.Name, order)
			for _, m := range modes {
				text := cells[n.Name+"|"+order+"|"+string(m)]
				if text == "" {
					t.Errorf("%s, %s, %s: nothing came of it", n.Name, order, m)
					text = "**fails**"
				}
				fmt.Fprintf(&out, " %s |", text)
			}
			fmt.Fprintln(&out)
		}
	}
	fmt.Fprint(&out, "\nTested with:\n\n")
	for _, n := range neighbours() {
		if v := versions[n.Name]; v != "" && !strings.Contains(n.Name, " and ") {
			fmt.Fprintf(&out, "- %s\n", v)
		}
	}
	return out.String()
}

const intro = `# Beside other programs

` + "Written by `make coexist`" + `, which starts the real programs, each in namespaces of its
own, beside a network of each mode with a synthetic guest (package internal/doctor/probe):
it takes its lease, resolves, reaches what its mode promises, and tries what its
mode forbids. Orders: *other first*; *qnet first*; *reload*: the other is reloaded or
restarted while VMs run, and guests must reach everything again within 2 s of its end
(4 s of its start, which programs do not tell the end of).
In each cell the other still does its own job while qnet runs and afterwards, and its
rules and files are byte for byte as they were when qnet has gone; reloaded then, it
brings nothing of qnet's back.

- untouched: works, and qnet put nothing into the other's rules or zones;
- accepts: works with accepts in the other's iptables chains ([host-changes.md](host-changes.md));
- zone: works with the network's bridge in a zone of firewalld's while it runs;
- told: the other's rules drop it, qnet does not edit them, and says who drops what
  and the command that lets it pass.

%d cells: %d untouched, %d with accepts, %d in a zone, %d told, none silent. The longest time
until guests reached everything again: %.1f s.

| beside | order | private | host-only | nat | bridge |
|---|---|---|---|---|---|
`
