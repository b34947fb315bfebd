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

// all are the programs that the matrix tries.
func all() []programs.Program {
	return []programs.Program{
		programs.Docker(),
		programs.UFW(),
		programs.Together(programs.UFW(), programs.Docker()),
		programs.Firewalld().Program,
		programs.IPTables("nft"),
		programs.IPTables("legacy"),
		programs.NFTables(),
		programs.Libvirt(),
		programs.Together(programs.UFW(), programs.Docker(), programs.Libvirt()),
		programs.VPN("two /1 routes"),
		programs.VPN("policy rules"),
		programs.Together(programs.Firewalld().Program, programs.Docker()),
		programs.Together(programs.Firewalld().Program, programs.Libvirt()),
		programs.Together(programs.VPN("policy rules"), programs.Docker()),
	}
}

// columns are those of the page's table.
func columns() (list []string) {
	for _, m := range modes {
		list = append(list, string(m))
	}
	for _, l := range leads() {
		list = append(list, l.column)
	}
	return list
}

// orders are the orders in which qnet and the other program start.
var orders = []string{"other first", "qnet first", "reload"}

// insideEnv is set in the processes of the cells.
const insideEnv = "QNET_COEXIST_INSIDE"

// page is where TestCoexist writes its table.
const page = "../../../docs/coexistence.md"

// TestCoexist is `make coexist`: every mode beside every program in every order. It
// writes docs/coexistence.md.
func TestCoexist(t *testing.T) {
	if os.Getenv("QNET_COEXIST") == "" {
		t.Skip("make coexist runs it")
	}
	inside := os.Getenv(insideEnv) != ""
	t.Setenv(insideEnv, "1")
	if os.Getenv(resultsEnv) == "" { // it may name a file with the results of several runs
		t.Setenv(resultsEnv, filepath.Join(t.TempDir(), "results"))
	}
	t.Run("beside", func(t *testing.T) { // it returns when all cells, which run side by side, have ended
		for _, p := range all() {
			for _, order := range orders {
				t.Run(strings.NewReplacer(" ", "_", "/", "").Replace(p.Name)+"/"+order, func(t *testing.T) { try(t, p, order) })
			}
		}
	})
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

// table is the page docs/coexistence.md.
func table(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(os.Getenv(resultsEnv))
	if err != nil {
		t.Fatal(err)
	}
	cells := map[string]string{} // by program, order and mode
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
	for _, p := range all() {
		for _, order := range orders {
			fmt.Fprintf(&out, "| %s | %s |", p.Name, order)
			for _, column := range columns() {
				text := cells[p.Name+"|"+order+"|"+column]
				if text == "" {
					t.Errorf("%s, %s, %s: nothing came of it", p.Name, order, column)
					text = "**fails**"
				}
				fmt.Fprintf(&out, " %s |", text)
			}
			fmt.Fprintln(&out)
		}
	}
	fmt.Fprint(&out, "\nTested with:\n\n")
	for _, p := range all() {
		if v := versions[p.Name]; v != "" && !strings.Contains(p.Name, " and ") {
			fmt.Fprintf(&out, "- %s\n", v)
		}
	}
	return out.String()
}

const intro = `# Beside other programs

` + "`make coexist`" + ` writes this page. It starts the real programs, each in its own namespaces,
beside a network of each mode with a synthetic guest (package internal/doctor/probe/guest).
The guest takes its lease, resolves names, reaches what its mode promises, and tries what
its mode forbids. Ports of the host lead to two more guests, TCP and UDP: in nat by DNAT, so that
the guest sees who calls, and in host-only by a relay. A client on the LAN uses them by the host's
address. There are three orders:

- *other first*: the other program runs when the first VM starts;
- *qnet first*: the other program starts while VMs run. Guests must reach everything
  within 4 s of its start, because its end does not show;
- *reload*: an administrator reloads or restarts the other program while VMs run. Guests
  must reach everything within 2 s of the end of that.

In each cell the other program does its own job while qnet runs and afterwards. When qnet
has ended, the rules and files of the other program are as they were, byte for byte, and
a reload brings nothing of qnet back. The results:

- untouched: it works, and qnet put nothing into the rules or zones of the other program;
- accepts: it works with accepts in the iptables chains of the other program
  ([host-changes.md](host-changes.md));
- zone: it works with the bridge of the network in a zone of firewalld while VMs run;
- told: the rules of the other program drop packets, and qnet does not edit these rules.
  It tells the user what drops which packets, and the command that lets them pass.

%d cells: %d untouched, %d with accepts, %d in a zone, %d told, none silent. The longest time
until guests reached everything again: %.1f s.

| beside | order | private | host-only | nat | bridge | forward by DNAT | forward by relay |
|---|---|---|---|---|---|---|---|
`

// The page begins with the words above; the numbers and the table are from a whole run.
func TestPage(t *testing.T) {
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	words, _, _ := strings.Cut(intro, "%d cells")
	if !strings.HasPrefix(string(b), words) {
		t.Errorf("%s begins with other words; make coexist writes it", page)
	}
	for _, p := range all() {
		if !strings.Contains(string(b), "| "+p.Name+" | reload |") {
			t.Errorf("%s lacks %s; make coexist writes it", page, p.Name)
		}
	}
}
