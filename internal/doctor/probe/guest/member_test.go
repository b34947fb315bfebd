package guest

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/keeper/server"
	"github.com/qnet-vm/qnet/profiles"
)

func TestMain(m *testing.M) {
	lab.Instrument(os.Args)
	if len(os.Args) > 1 && os.Args[1] == "keeper" {
		os.Exit(server.Main(context.Background(), os.Args[2:], os.Stdin, os.Stderr))
	}
	os.Exit(m.Run())
}

// A keeper that is killed has a successor, which removes what marks the packets of the
// VM. If the VM's process dies with the keeper, qnet gc removes it.
func TestKeeperKilled(t *testing.T) {
	lab.Require(t, lab.Tun, lab.Program("nft"))
	lab.Run(t, func(t *testing.T) {
		lab.Uplink(t)
		dir := lab.Dir(t)
		o := keeper.Options{RunDir: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state"), Exe: []string{"/proc/self/exe", "keeper"}}
		before := lab.Snapshot(t, o.RunDir)
		place := Place{Keeper: o, Network: keeper.Network{Name: "dev", Mode: profiles.NAT}, VM: "probe-1", NICs: 1, Trace: []netip.Addr{netip.MustParseAddr("203.0.113.1")}}
		note := make(chan string, 8)
		place.Keeper.Note = func(n keeper.Note) { note <- n.String() }
		m, err := Join(t.Context(), place)
		if err != nil {
			t.Fatal(err)
		}
		lab.Sh(t, "nft list tables | grep qnet_trace_")
		syscall.Kill(m.Info().KeeperPID, syscall.SIGKILL)
		select {
		case text := <-note:
			if !strings.Contains(text, "another has taken over") {
				t.Error(text)
			}
		case <-time.After(10 * time.Second):
			t.Error("no other keeper")
		}
		if err := m.Close(t.Context()); err != nil {
			t.Error(err)
		}
		before.Check(t)

		if m, err = Join(t.Context(), place); err != nil {
			t.Fatal(err)
		}
		for _, g := range m.Guests {
			g.close() // as the kernel does of a dead process
		}
		syscall.Kill(m.Info().KeeperPID, syscall.SIGKILL)
		m.reg.Close()
		lab.Eventually(t, 5*time.Second, "nothing is left", func() bool {
			_, err := keeper.Collect(t.Context(), o)
			return err == nil && lab.Diff(before, lab.Snapshot(t, o.RunDir)) == ""
		})
	})
}
