package journal

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/netsetup/step/steptest"
)

// oldJournals were written by the code of commit 4927c03, one for each kind of network: with
// two NICs of a VM, and beside NetworkManager, systemd-networkd, firewalld, Docker and ufw.
// NAME.txt has the commands of the steps, as that code worded them. Together they hold every
// type of step.
const oldJournals = "testdata/4927c03"

func readOld(t *testing.T, name string) *Journal {
	t.Helper()
	j, err := Read(filepath.Join(oldJournals, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return j
}

var oldNames = []string{"private", "host-only", "nat", "bridge", "move", "macvtap"}

// commands words the steps as the .txt files do.
func commands(steps []step.Step) string {
	var b strings.Builder
	for _, s := range steps {
		fmt.Fprintf(&b, "# %s\n%s\n# undo\n%s\n", step.TypeName(s), s, s.UndoString())
	}
	return b.String()
}

func TestOldJournalsHaveTheirCommands(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range oldNames {
		steps := readOld(t, name).Steps()
		want, err := os.ReadFile(filepath.Join(oldJournals, name+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		if got := commands(steps); got != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
		for _, s := range steps {
			seen[step.TypeName(s)] = true
		}
	}
	if len(seen) < 20 {
		t.Errorf("only %d types of steps: %v", len(seen), seen)
	}
}

// Written again, an old journal has all that it had, field by field.
func TestOldJournalsLoseNothing(t *testing.T) {
	for _, name := range oldNames {
		old, err := os.ReadFile(filepath.Join(oldJournals, name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "journal.json")
		if err := readOld(t, name).Write(path); err != nil {
			t.Fatal(err)
		}
		again, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var got, want any
		if err := json.Unmarshal(again, &got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(old, &want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, again, old)
		}
	}
}

// hostOf is the host that the old journals were written on, before their networks.
func hostOf(name string) *steptest.Memory {
	m := steptest.Of(hosttest.Facts(name))
	m.State["/"+host.IPForward] = "0"
	m.State["link eth7"], m.State["/"+host.ForwardingKey("eth7")] = "", "0" // an uplink that appears while the network runs
	if name == "move" {
		m.State["dns eth0"] = strings.Join(hosttest.Settled().NIC.DNS.Commands("eth0"), "\n")
	}
	return m
}

// What the steps of an old journal did is undone by this code.
func TestOldJournalsAreUndone(t *testing.T) {
	for _, name := range oldNames {
		m := hostOf(name)
		start := maps.Clone(m.State)
		j := readOld(t, name)
		if err := apply.Do(t.Context(), m.Kernel(), j.Steps(), nil); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if maps.Equal(m.State, start) {
			t.Fatalf("%s: nothing was done", name)
		}
		if err := apply.Undo(t.Context(), m.Kernel(), j.Steps()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		// On a real host the restored routes are the bridge's, and have gone with it.
		maps.DeleteFunc(m.State, func(k, _ string) bool { return strings.HasPrefix(k, "route ") })
		if diff := steptest.Diff(start, m.State); diff != "" {
			t.Errorf("%s: left\n%s", name, diff)
		}
	}
}
