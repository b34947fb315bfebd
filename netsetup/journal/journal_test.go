package netsetup

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/qnet-vm/qnet/profiles"
)

// A journal cut at any byte is known to be damaged; a whole one says what was written.
func TestJournalCutAtEveryByte(t *testing.T) {
	plan, err := NewPlan(Network{Name: "dev", Mode: profiles.NAT}, laptop(), PlanOptions{Salt: testSalt})
	if err != nil {
		t.Fatal(err)
	}
	j, err := NewJournal(plan)
	if err != nil {
		t.Fatal(err)
	}
	j.Ports["web"] = plan.PortSteps(Port{VM: "web"})
	path := filepath.Join(t.TempDir(), "journal.json")
	if err := j.Write(path); err != nil {
		t.Fatal(err)
	}
	j.encoded = nil
	if got, err := ReadJournal(path); err != nil || !reflect.DeepEqual(got, j) {
		t.Errorf("read back %+v, %v", got, err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range whole {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		var damaged *json.SyntaxError
		if _, err := ReadJournal(path); !errors.As(err, &damaged) {
			t.Fatalf("cut at %d of %d: %v", cut, len(whole), err)
		}
	}
}

func TestSaltIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	a, err := LoadSalt(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := LoadSalt(dir)
	if err != nil || string(a) != string(b) || len(a) != 32 {
		t.Errorf("%x became %x, %v", a, b, err)
	}
}

func TestJournalRoundTrip(t *testing.T) {
	p, err := NewPlan(Network{Name: "dev", Mode: profiles.NAT}, laptop(), PlanOptions{Salt: testSalt})
	if err != nil {
		t.Fatal(err)
	}
	j, err := NewJournal(p)
	if err != nil {
		t.Fatal(err)
	}
	j.Ports["web"] = p.PortSteps(Port{VM: "web", NIC: 3})
	j.Ports["db"] = StepList{AddMacvtap{Name: "qndb0", Uplink: "eth0", MAC: guestMAC, Alias: "qnet:lan/db/0"}}
	j.Added = StepList{uplinkForwarding("eth7", Facts{})}
	path := filepath.Join(t.TempDir(), "journal.json")
	if err := j.Write(path); err != nil {
		t.Fatal(err)
	}
	got, err := ReadJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	j.encoded = nil // what Write keeps for itself
	if !reflect.DeepEqual(got, j) {
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(j)
		t.Errorf("got  %s\nwant %s", a, b)
	}
}
