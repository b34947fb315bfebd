package doctor

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/plan"
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

// The worst finding decides about a mode. A finding about no mode of the networks does
// not count.
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

// A finding says which program drops what, and the command that lets it pass. It is no
// fault if a run inserts accepts.
func TestAnswered(t *testing.T) {
	n := plan.Network{Name: "nat", Mode: profiles.NAT}
	accept := filters.AcceptRule{Engine: filters.IPTablesNFT, Family: nft.IP, Table: "filter", Chain: "FORWARD", Spec: "-i qn-nat -j ACCEPT"}
	for name, c := range map[string]struct {
		answer filters.Answer
		want   Finding
	}{
		"commands": {
			filters.Answer{Evidence: "X drops Y", Remedy: filters.Remedy{Commands: []string{"nft a", "nft b"}}},
			Finding{Status: Fail, Evidence: "network nat: X drops Y", Remedy: "nft a and nft b"},
		},
		"advice": {
			filters.Answer{Evidence: "V drops Y: blocked on purpose", Remedy: filters.Remedy{Advice: "allow local network sharing in its settings"}},
			Finding{Status: Fail, Evidence: "network nat: V drops Y: blocked on purpose", Remedy: "allow local network sharing in its settings"},
		},
		"accepts": {
			filters.Answer{Accepts: []filters.AcceptRule{accept, accept}},
			Finding{Status: Pass, Evidence: "other programs drop packets of network nat; qnet puts in their chains while it runs: " +
				"iptables-nft -w 10 -t filter -I FORWARD -i qn-nat -j ACCEPT (and 1 more, see qnet plan)"},
		},
	} {
		c.want.Modes = []profiles.Mode{profiles.NAT}
		if got := answered(n, []filters.Answer{c.answer}); !reflect.DeepEqual(got, []Finding{c.want}) {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

// boot.bin is what the assembler makes of boot.asm.
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
