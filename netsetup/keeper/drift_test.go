package keeper_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/profiles"
)

// The undo respects what an administrator changed while no keeper lived, and tells it.
func TestUndoRespectsOthers(t *testing.T) {
	for name, c := range map[string]struct{ change, after, back, want string }{
		"sysctl": {
			"sysctl -qw net/ipv4/conf/eth0/forwarding=0; sysctl -qw net/ipv4/conf/eth0/forwarding=2 || true", "true",
			"sysctl -qw net/ipv4/conf/eth0/forwarding=0", "",
		},
		"bridge gone": {"ip link del qn-dev", "true", "true", "bridge qn-dev is gone"},
		"bridge of another": {
			"ip link del qn-dev; ip link add qn-dev type bridge", "ip link show qn-dev", "ip link del qn-dev", "bridge qn-dev is gone, or another program's by now",
		},
		"address": {"ip addr add 10.1.1.1/24 dev qn-dev", "true", "true", "address 10.1.1.1/24 of bridge qn-dev was another program's"},
		"tables":  {"nft delete table inet qnet_dev; nft add table inet qnet_dev", "nft list table inet qnet_dev", "nft delete table inet qnet_dev", "nftables table inet qnet_dev"},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(t *testing.T, o Options) {
				r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
				killBoth(t, r) // no keeper mends
				lab.Sh(t, c.change)
				removed, err := Collect(t.Context(), o)
				if err != nil || len(removed) != 1 || !strings.Contains(removed[0], c.want) {
					t.Errorf("removed %q, %v", removed, err)
				}
				lab.Sh(t, c.after)
				lab.Sh(t, c.back)
			})
		})
	}
}

// The undo deletes a tap that another program made persistent.
func TestPersistentTap(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.Private}, "web", port(1))
		if err := unix.IoctlSetInt(int(r.Ports()[0].File.Fd()), unix.TUNSETPERSIST, 1); err != nil {
			t.Fatal(err)
		}
		mustLeave(t, r)
	})
}

// With a damaged journal, Collect undoes the network by its marks. With the journal of
// another boot it undoes nothing.
func TestDamagedJournals(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		n := Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}
		path := journalOf(o, "dev")
		for i := range 8 {
			r := mustJoin(t, o, n, "web", port(1))
			killBoth(t, r)
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, whole[:len(whole)*i/8], 0o644); err != nil {
				t.Fatal(err)
			}
			if i%2 == 0 { // the next run finds it
				mustLeave(t, mustJoin(t, o, n, "web", port(1)))
			} else if removed, err := Collect(t.Context(), o); err != nil || len(removed) != 1 || !strings.Contains(removed[0], "damaged") {
				t.Errorf("cut at %d of 8: %q, %v", i, removed, err)
			}
			lab.Sh(t, "! ip link show qn-dev 2> /dev/null; nft list tables | (! grep qnet); sysctl -qw net/ipv4/conf/eth0/forwarding=0")
		}
		killBoth(t, mustJoin(t, o, n, "web", port(1)))
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		otherNamespace(t, path, whole, o)
		otherBoot(t, path, whole, o)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, whole, 0o644)); err != nil {
			t.Fatal(err)
		}
		if removed, err := Collect(t.Context(), o); err != nil || len(removed) != 1 {
			t.Errorf("whole: %v, %v", removed, err)
		}
	})
}

// otherNamespace gives the journal the id of a network namespace that lives: Collect
// does not touch what was made there.
func otherNamespace(t *testing.T, path string, whole []byte, o Options) {
	t.Helper()
	var j journal.Journal
	if err := json.Unmarshal(whole, &j); err != nil {
		t.Fatal(err)
	}
	inode := strings.TrimSpace(lab.Sh(t, "stat -L -c %i /run/netns/inet"))
	j.NetNS = "net:[" + inode + "]"
	if err := j.Write(path); err != nil {
		t.Fatal(err)
	}
	if removed, err := Collect(t.Context(), o); !errors.Is(err, host.ErrRefused) || len(removed) != 0 || !strings.Contains(err.Error(), "another network namespace") {
		t.Errorf("another namespace: %v, %v", removed, err)
	}
	lab.Sh(t, "ip link show qn-dev")
}

// otherBoot gives the journal another boot's id: nothing of that network can be left.
func otherBoot(t *testing.T, path string, whole []byte, o Options) {
	t.Helper()
	var j journal.Journal
	if err := json.Unmarshal(whole, &j); err != nil {
		t.Fatal(err)
	}
	j.BootID = "another"
	if err := j.Write(path); err != nil {
		t.Fatal(err)
	}
	if removed, err := Collect(t.Context(), o); err != nil || len(removed) != 1 || !strings.Contains(removed[0], "another boot") {
		t.Errorf("another boot: %v, %v", removed, err)
	}
	lab.Sh(t, "ip link show qn-dev") // of this boot, so not of that journal
}

// A run directory that is full or read-only is an error and changes nothing. The
// keeper undoes everything even if another program deletes the run directory.
func TestRunDirectoryTrouble(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		n := Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}
		for name, options := range map[string]string{"read-only": "ro,size=1m", "full": "size=4k,nr_inodes=3"} {
			if err := os.MkdirAll(o.RunDir, 0o755); err != nil {
				t.Fatal(err)
			}
			lab.Sh(t, "mount -t tmpfs -o "+options+" tmpfs "+o.RunDir)
			if _, err := Join(t.Context(), o, n, "web", port(1)); err == nil {
				t.Errorf("%s: no error", name)
			}
			lab.Sh(t, "umount "+o.RunDir+"; rmdir "+o.RunDir+"; ! ip link show qn-dev 2> /dev/null")
		}
		r := mustJoin(t, o, n, "web", port(1))
		lab.Sh(t, "rm -r "+o.RunDir)
		mustLeave(t, r)
		lab.Eventually(t, 2*time.Second, "the directory stays away", func() bool {
			_, err := os.Stat(o.RunDir)
			return os.IsNotExist(err)
		})
	})
}
