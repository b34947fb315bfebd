package journal

import (
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/netsetup/step/steptest"
	"github.com/qnet-vm/qnet/profiles"
)

// Every step of an old journal that names a link of the host names it anew after a rename.
// What is kept of the time of the plan, and files by their paths, stay.
func TestStepsAreRenamed(t *testing.T) {
	for _, name := range oldNames {
		j := readOld(t, name)
		for _, link := range []string{"eth0", "br0", "eth7"} {
			before := commands(j.Steps())
			renamed := step.Renamed(j.Steps(), map[string]string{link: "other"})
			if commands(j.Steps()) != before {
				t.Errorf("%s: the steps themselves have changed", name)
			}
			for _, s := range renamed {
				words := s.String() + "\n" + s.UndoString()
				switch s := s.(type) {
				case step.ConfigFile:
					continue
				case step.MoveToBridge:
					if s.Link != "other" && link == "eth0" || s.Was != link && s.Was != "" {
						t.Errorf("%s: moves %q, was %q", name, s.Link, s.Was)
					}
					words = strings.ReplaceAll(words, "label "+link, "")
				}
				if slices.Contains(strings.FieldsFunc(words, func(r rune) bool { return strings.ContainsRune(" \n/\"=,", r) }), link) {
					t.Errorf("%s: %s still is about %s:\n%s", name, step.TypeName(s), link, words)
				}
			}
		}
	}
}

// natOn is the journal of a nat network on the laptop, as the keeper writes it.
func natOn(t *testing.T, f host.Facts, uplink string) *Journal {
	t.Helper()
	p, err := plan.New(plan.Network{Name: "dev", Mode: profiles.NAT, Uplink: uplink}, f, plan.Options{Salt: hosttest.Salt})
	if err != nil {
		t.Fatal(err)
	}
	j := &Journal{Plan: p}
	j.Identify(f.Links)
	return j
}

// forwarded are the links whose forwarding the journal turns off again.
func forwarded(j *Journal) []string {
	var list []string
	for _, s := range step.All[step.SetSysctl](j.Steps()) {
		if link, ok := plan.UplinkOf(s); ok {
			list = append(list, link)
		}
	}
	slices.Sort(list)
	return list
}

func TestFollow(t *testing.T) {
	laptop := hosttest.Laptop()
	for name, c := range map[string]struct {
		change    func(links []host.Link) []host.Link
		forwarded []string
		uplinks   []string
	}{
		"nothing": {func(l []host.Link) []host.Link { return l }, []string{"eth0"}, []string{"eth0", "tun0"}},
		"renamed": {func(l []host.Link) []host.Link { l[1].Name = "enp1s0"; return l }, []string{"enp1s0"}, []string{"enp1s0", "tun0"}},
		"swapped": {
			func(l []host.Link) []host.Link { l[1].Name, l[7].Name = "tun0", "eth0"; return l },
			[]string{"tun0"},
			[]string{"tun0", "eth0"},
		},
		"gone":       {func(l []host.Link) []host.Link { return slices.Delete(l, 1, 2) }, []string{"eth0"}, []string{"eth0", "tun0"}},
		"made again": {func(l []host.Link) []host.Link { l[1].Index = 99; return l }, nil, []string{"tun0"}},
		"gone, and its name another uplink's": {
			func(l []host.Link) []host.Link { l[7].Name = "eth0"; return slices.Delete(l, 1, 2) }, nil, []string{"eth0"},
		},
		"gone, and its index another link's": {
			func(l []host.Link) []host.Link {
				l[1].Name, l[1].MAC = "mine", net.HardwareAddr{2, 9, 9, 9, 9, 9}
				return l
			},
			[]string{"eth0"},
			[]string{"eth0", "tun0"},
		},
	} {
		j := natOn(t, laptop, "")
		j.Follow(c.change(slices.Clone(laptop.Links)))
		if got := forwarded(j); !slices.Equal(got, c.forwarded) {
			t.Errorf("%s: turns off the forwarding of %v, want %v", name, got, c.forwarded)
		}
		if got := j.Plan.Uplinks; !slices.Equal(got, c.uplinks) {
			t.Errorf("%s: uplinks %v, want %v", name, got, c.uplinks)
		}
		if j.Follow(c.change(slices.Clone(laptop.Links))) {
			t.Errorf("%s: a second look changes the journal", name)
		}
	}
}

// What the journal knows of links comes back from its file, and the names of its table follow.
func TestFollowAfterRead(t *testing.T) {
	laptop := hosttest.Laptop()
	path := filepath.Join(t.TempDir(), "journal.json")
	if err := natOn(t, laptop, "eth0").Write(path); err != nil {
		t.Fatal(err)
	}
	j, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	laptop.Links[1].Name = "enp1s0"
	if !j.Follow(laptop.Links) || j.Plan.Network.Uplink != "enp1s0" {
		t.Errorf("the uplink is %q", j.Plan.Network.Uplink)
	}
	if words := steptest.Script(j.Steps()); strings.Contains(words, "eth0") || strings.Count(words, `elements = { "enp1s0" }`) != 2 {
		t.Errorf("got\n%s", words)
	}
}

// An old journal knows its links by their names alone, and goes by those.
func TestFollowOldJournals(t *testing.T) {
	for _, name := range oldNames {
		j := readOld(t, name)
		before := commands(j.Steps())
		if changed := j.Follow(hosttest.Facts(name).Links); changed || commands(j.Steps()) != before {
			t.Errorf("%s: changed", name)
		}
	}
}

// A profile may call an uplink by the name of before, while no other link has that.
func TestCalls(t *testing.T) {
	m := steptest.Of(hosttest.Laptop())
	j := &Journal{Plan: plan.Plan{Network: plan.Network{Uplink: "enp1s0", Asked: "lan"}}}
	j.Links = []host.Identity{{Name: "enp1s0", Planned: "gone0"}, {Name: "enp2s0", Planned: "gone1"}}
	for name, want := range map[string]bool{"enp1s0": true, "gone0": true, "gone1": false, "lan": true, "eth0": false, "": false} {
		if got, err := j.Calls(t.Context(), m.Kernel(), name); got != want || err != nil {
			t.Errorf("%q: %t, %v", name, got, err)
		}
	}
}
