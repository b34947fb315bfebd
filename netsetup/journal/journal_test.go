package journal

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/profiles"
)

// Read finds a journal damaged that is cut at any byte, and reads a whole one as it was.
func TestJournalCutAtEveryByte(t *testing.T) {
	p, err := plan.New(plan.Network{Name: "dev", Mode: profiles.NAT}, hosttest.Laptop(), plan.Options{Salt: hosttest.Salt})
	if err != nil {
		t.Fatal(err)
	}
	j, err := New(p)
	if err != nil {
		t.Fatal(err)
	}
	j.Ports["web"] = p.PortSteps(plan.NIC{VM: "web"})
	path := filepath.Join(t.TempDir(), "journal.json")
	if err := j.Write(path); err != nil {
		t.Fatal(err)
	}
	j.encoded = nil
	if got, err := Read(path); err != nil || !reflect.DeepEqual(got, j) {
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
		if _, err := Read(path); !errors.As(err, &damaged) {
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
	p, err := plan.New(plan.Network{Name: "dev", Mode: profiles.NAT}, hosttest.Laptop(), plan.Options{Salt: hosttest.Salt})
	if err != nil {
		t.Fatal(err)
	}
	j, err := New(p)
	if err != nil {
		t.Fatal(err)
	}
	j.Ports["web"] = p.PortSteps(plan.NIC{VM: "web", Index: 3})
	j.Ports["db"] = step.List{step.AddMacvtap{Name: "qndb0", Uplink: "eth0", MAC: hosttest.GuestMAC, Alias: "qnet:lan/db/0"}}
	uplink, _ := plan.ForwardingStep(host.Facts{}, "eth7")
	j.Added = step.List{uplink}
	path := filepath.Join(t.TempDir(), "journal.json")
	if err := j.Write(path); err != nil {
		t.Fatal(err)
	}
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	j.encoded = nil // Write's own
	if !reflect.DeepEqual(got, j) {
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(j)
		t.Errorf("got  %s\nwant %s", a, b)
	}
}
