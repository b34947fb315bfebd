package keeper_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/profiles"
)

// Within a second of a keeper's death another keeper adopts the network. Connections
// through NAT live on, no address changes, and the last VM's end still removes the
// network.
func TestKeeperKilled(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		n := Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}
		web := mustJoin(t, o, n, "web", port(1))
		db := mustJoin(t, o, n, "db", port(2))
		lab.Guest(t, "vm1", "qn-dev", "10.77.0.9/24", "10.77.0.1")
		say := lab.Conversation(t, "vm1")
		if !say("hello") {
			t.Fatal("no conversation to begin with")
		}
		pid := web.Info().KeeperPID
		for round := range 3 {
			unix.Kill(pid, unix.SIGKILL)
			begin := time.Now()
			var now []Info
			lab.Eventually(t, 15*time.Second, "the next keeper", func() bool {
				infos, err := List(t.Context(), o.RunDir)
				now = infos
				return err == nil && len(infos) == 1 && infos[0].KeeperPID != pid && len(infos[0].VMs) == 2 &&
					len(infos[0].VMs[0].Ports) == 1 && len(infos[0].VMs[1].Ports) == 1
			})
			took := time.Since(begin)
			t.Logf("round %d: another keeper after %s", round, took)
			if took > patience*time.Second {
				t.Errorf("round %d: took %s", round, took)
			}
			for i, r := range []*Registration{db, web} {
				if got := now[0].VMs[i].Ports[0]; got.Address != r.Ports()[0].Address || got.Tap != r.Ports()[0].Tap {
					t.Errorf("round %d: %+v, was %+v", round, got, r.Ports()[0])
				}
			}
			if !say(fmt.Sprint("still there? ", round)) {
				t.Errorf("round %d: the connection through NAT broke", round)
			}
			pid = now[0].KeeperPID
		}
		// The rules are the new keeper's own: another program's flush spares them.
		lab.Sh(t, "nft flush ruleset; nft list table inet qnet_dev > /dev/null")
		lab.Sh(t, "ip link del vvm1; ip netns del vm1")
		mustLeave(t, web)
		mustLeave(t, db)
	})
}

// A VM that died together with the keeper loses its port; the other stays.
func TestKeeperAndOneVMKilled(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		n := Network{Name: "dev", Mode: profiles.HostOnly}
		web := mustJoin(t, o, n, "web", port(1))
		db := mustJoin(t, o, n, "db", port(2))
		db.Forsake()
		unix.Kill(web.Info().KeeperPID, unix.SIGKILL)
		lab.Sh(t, "ip tuntap add keep0 mode tap; ip link del keep0") // the kernel still answers
		lab.Eventually(t, rejoinTimeout+2*time.Second, "the dead VM's port gone", func() bool {
			_, err := lab.Try("ip link show qndb0")
			return err != nil
		})
		lab.Sh(t, "ip link show qnweb0")
		if infos, err := List(t.Context(), o.RunDir); err != nil || len(infos) != 1 || len(infos[0].VMs) != 1 {
			t.Errorf("got %+v, %v", infos, err)
		}
		die(db)
		mustLeave(t, web)
	})
}

// Collect leaves a network alone while its VMs live: their supervisors are about to
// start the next keeper.
func TestCollectSparesLivingVMs(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		web := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT}, "web", port(1))
		release := web.Hold() // holds the next keeper up
		unix.Kill(web.Info().KeeperPID, unix.SIGKILL)
		lab.Eventually(t, 2*time.Second, "keeper gone", func() bool {
			infos, err := List(t.Context(), o.RunDir)
			return err == nil && len(infos) == 0
		})
		if removed, err := Collect(t.Context(), o); err != nil || len(removed) != 0 {
			t.Errorf("collected a living network: %v, %v", removed, err)
		}
		lab.Sh(t, "ip link show qn-dev; ip link show qnweb0")
		release()
		mustLeave(t, web)
	})
}

// A VM can leave although the keeper dies just then.
func TestLeaveWithoutKeeper(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		web := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT}, "web", port(1))
		web.Forsake()
		unix.Kill(web.Info().KeeperPID, unix.SIGKILL)
		mustLeave(t, web)
	})
}
