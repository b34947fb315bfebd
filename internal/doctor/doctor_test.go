package doctor

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/profiles"
)

// docs/doctor.md has a line for each check, in their order.
func TestChecksAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	for _, c := range Checks {
		_, rest, ok := strings.Cut(text, "\n| `"+c.Name+"` | ")
		if !ok {
			t.Errorf("docs/doctor.md lacks %q, or has it elsewhere", c.Name)
			continue
		}
		text = "\n" + rest
	}
}

// The worst finding decides about a mode; what is of no mode asked about does not count.
func TestModes(t *testing.T) {
	r := Report{Modes: map[profiles.Mode]Status{profiles.NAT: Pass, profiles.Private: Pass}}
	r.add(Finding{Check: "a", Status: Warn, Modes: all})
	r.add(Finding{Check: "b", Status: Unseen, Modes: all})
	r.add(Finding{Check: "c", Status: Fail, Modes: []profiles.Mode{profiles.Bridge}})
	r.add(Finding{Check: "d", Status: Fail})
	if r.CannotWork() || r.Modes[profiles.NAT] != Warn || len(r.Modes) != 2 || len(r.Findings) != 4 {
		t.Errorf("%+v", r)
	}
	r.add(Finding{Check: "e", Status: Fail, Modes: routed})
	if !r.CannotWork() || r.Modes[profiles.NAT] != Fail || r.Modes[profiles.Private] != Warn {
		t.Errorf("%+v", r.Modes)
	}
}

// A note of package foreign is parted into what it says and what to run.
func TestNotes(t *testing.T) {
	f := noted("network nat: X drops Y; qnet does not edit its rules: to let it pass, run `nft a` and `nft b`", routed)
	if f.Status != Fail || f.Evidence != "network nat: X drops Y" || f.Remedy != "nft a and nft b" {
		t.Errorf("%+v", f)
	}
	f = noted("network nat: V drops Y: blocked on purpose; allow local network sharing in its settings", routed)
	if f.Evidence != "network nat: V drops Y: blocked on purpose" || f.Remedy != "allow local network sharing in its settings" {
		t.Errorf("%+v", f)
	}
}

// boot.bin is boot.asm assembled.
func TestBootSector(t *testing.T) {
	lab.Require(t, lab.Program("as"), lab.Program("ld"))
	dir := t.TempDir()
	lab.Sh(t, "as -o "+dir+"/boot.o boot.asm && ld -Ttext 0x7c00 --oformat binary -o "+dir+"/boot.bin "+dir+"/boot.o")
	want, err := os.ReadFile(filepath.Join(dir, "boot.bin"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(bootSector, want) || len(want) != 512 {
		t.Errorf("boot.bin is not boot.asm: %d bytes, want %d", len(bootSector), len(want))
	}
}
