package keeper_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/step"
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

// The keeper of an older qnet opened all ports of the gateway's address to guests, beside a
// firewall that drops what comes in. One that adopts its network opens what the network needs.
func TestAdoptedAcceptIsNarrowed(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		needIPTables(t)
		lab.Sh(t, "iptables-nft -P INPUT DROP")
		before := lab.Snapshot(t)
		web := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
		accepts := func() string { return lab.Sh(t, "iptables-nft-save | grep '^-A INPUT.*qnet:dev' || true") }
		narrow := accepts()
		if !strings.Contains(narrow, "--dport 53") {
			t.Fatalf("to begin with: %s", narrow)
		}
		release := web.Hold()
		pid := web.Info().KeeperPID
		kill(t, pid)
		// What it had, and had in its journal.
		place := rundir.Network{RunDir: o.RunDir, Name: "dev"}
		j, err := journal.Read(place.Journal())
		if err != nil {
			t.Fatal(err)
		}
		wide := step.AddAccept{}
		j.Plan.Steps = slices.DeleteFunc(j.Plan.Steps, func(s step.Step) bool {
			a, ok := s.(step.AddAccept)
			if ok && a.Rule.Chain == "INPUT" {
				wide = a
			}
			return ok && a.Rule.Chain == "INPUT"
		})
		wide.Rule.Spec = `-s 10.77.0.0/24 -d 10.77.0.1/32 -i qn-dev -m comment --comment "qnet:dev" -j ACCEPT`
		j.Plan.Steps = append(j.Plan.Steps, wide)
		if err := j.Write(place.Journal()); err != nil {
			t.Fatal(err)
		}
		lab.Sh(t, "iptables-nft -F INPUT; "+wide.Rule.Command("-I"))
		natGuest(t)
		l, err := net.Listen("tcp4", "10.77.0.1:34560")
		if err != nil {
			t.Fatal(err)
		}
		if _, open := tries(t, "guest", "10.77.0.1:34560"); !open {
			t.Error("the older keeper's accept does not let the guest to the host's port")
		}
		release()
		lab.Eventually(t, 20*time.Second, "the accepts of a network of this qnet in place of the wide one", func() bool {
			return count(accepts())[strings.TrimSpace(wide.Rule.Text())] == 0 && len(count(accepts())) == len(count(narrow))
		})
		for line, n := range count(narrow) {
			if got := count(accepts())[line]; got != n {
				t.Errorf("%d of %q, want %d", got, line, n)
			}
		}
		if _, open := tries(t, "guest", "10.77.0.1:34560"); open {
			t.Error("the guest reaches a port of the host")
		}
		lab.Eventually(t, 5*time.Second, "a name", func() bool { return resolves(t, "guest", "udp4", "", "10.77.0.1", "web.qnet.", time.Second) })
		if j, err := journal.Read(place.Journal()); err != nil || slices.Contains(j.Steps(), step.Step(wide)) {
			t.Errorf("the journal still has the wide accept, %v", err)
		}
		l.Close()
		lab.Sh(t, "ip link del vguest; ip netns del guest")
		mustLeave(t, web)
		before.Check(t)
		lab.Sh(t, "nft delete table ip filter")
	})
}
