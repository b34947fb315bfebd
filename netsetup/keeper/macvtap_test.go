package keeper_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lockfile"
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/profiles"
)

var macvtap = Network{Name: "lan", Mode: profiles.Bridge, Macvtap: true}

// supervised takes the lock that a supervisor holds for its life; dies releases it.
func supervised(t *testing.T, o Options, vm string) (dies func()) {
	t.Helper()
	lock, err := lockfile.Wait(t.Context(), rundir.VM{RunDir: o.RunDir, Name: vm}.Lock())
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := lock.Release(); err != nil {
			t.Error(err)
		}
	}
}

// passes reports whether a frame written by one guest reaches another's NIC.
func passes(t *testing.T, from, to *Registration) bool {
	t.Helper()
	frame := slices.Concat(make([]byte, 10), to.Ports()[0].MAC, from.Ports()[0].MAC, []byte{0x88, 0xb5}, []byte(from.VM()), make([]byte, 40))
	if _, err := unix.Write(int(from.Ports()[0].File.Fd()), frame); err != nil {
		t.Fatal(err)
	}
	fd := int(to.Ports()[0].File.Fd())
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, _ := unix.Poll(ready, 100); n < 1 {
			continue
		}
		b := make([]byte, 2000)
		if n, _ := unix.Read(fd, b); n > 10 && bytes.Contains(b[10:n], frame[10:]) {
			return true
		}
	}
	return false
}

// Two VMs on one uplink reach each other. The uplink stays as it was, but for the links
// on it. The next keeper goes on after a killed one. The rest is as for taps.
func TestMacvtap(t *testing.T) {
	lab.Require(t, lab.Root)
	inLab(t, func(t *testing.T, o Options) {
		address := lab.Sh(t, "ip -d addr show eth0 | sed 's/promiscuity.*allmulti [0-9]*//; s/,ALLMULTI//'")
		webLives, dbLives := supervised(t, o, "web"), supervised(t, o, "db")
		var h heard
		web := mustJoin(t, h.options(o), macvtap, "web", port(1))
		db := mustJoin(t, o, macvtap, "db", port(2))
		if !h.says("this host and its VMs do not reach each other") {
			t.Error("the limit is not told")
		}
		lab.Sh(t, "ip -d link show qnweb0 | grep -q 'macvtap *mode bridge'; ip link show qnweb0 | grep -q 'state UP'; ! ip link show type bridge | grep qn")
		if !passes(t, web, db) || !passes(t, db, web) {
			t.Error("two VMs do not reach each other")
		}
		if now := lab.Sh(t, "ip -d addr show eth0 | sed 's/promiscuity.*allmulti [0-9]*//; s/,ALLMULTI//'"); now != address {
			t.Errorf("the NIC was\n%s\nis\n%s", address, now)
		}
		pid := web.Info().KeeperPID
		unix.Kill(pid, unix.SIGKILL)
		lab.Eventually(t, 15*time.Second, "the next keeper", func() bool {
			infos, err := List(t.Context(), o.RunDir)
			return err == nil && len(infos) == 1 && infos[0].KeeperPID != pid && len(infos[0].VMs) == 2 &&
				len(infos[0].VMs[0].Ports) == 1 && len(infos[0].VMs[1].Ports) == 1
		})
		if !passes(t, web, db) {
			t.Error("not any more under the next keeper")
		}
		lab.Sh(t, "ip link set qnweb0 down")
		lab.Eventually(t, 5*time.Second, "the link set up again", func() bool {
			out, _ := lab.Try("ip link show qnweb0")
			return strings.Contains(out, "state UP")
		})
		mustLeave(t, web)
		webLives()
		lab.Sh(t, "ip link show qndb0; ! ip link show qnweb0 2>&1")
		mustLeave(t, db)
		dbLives()
	})
}

// A macvtap link outlives QEMU, so others remove it: the keeper after a supervisor's
// death, gc after the death of all, the supervisor after a keeper's death just when the
// VM leaves.
func TestMacvtapAfterDeaths(t *testing.T) {
	lab.Require(t, lab.Root)
	inLab(t, func(t *testing.T, o Options) {
		before := lab.Snapshot(t, o.RunDir)
		r := mustJoin(t, o, macvtap, "web", port(1))
		die(r)
		lab.Eventually(t, 2*time.Second, "network gone", func() bool {
			_, err := os.Stat(o.RunDir)
			return os.IsNotExist(err)
		})
		before.Check(t)

		webDies := supervised(t, o, "web")
		r = mustJoin(t, o, macvtap, "web", port(1))
		r.Forsake()
		unix.Kill(r.Info().KeeperPID, unix.SIGKILL)
		<-r.Done()
		if removed, err := Collect(t.Context(), o); err != nil || len(removed) != 0 {
			t.Errorf("collected a living VM's: %v, %v", removed, err)
		}
		lab.Sh(t, "ip link show qnweb0")
		webDies()
		if removed, err := Collect(t.Context(), o); err != nil || len(removed) != 1 || !strings.Contains(removed[0], "macvtap on eth0") {
			t.Errorf("got %v, %v", removed, err)
		}
		before.Check(t)

		webDies = supervised(t, o, "web")
		r = mustJoin(t, o, macvtap, "web", port(1))
		r.Forsake()
		unix.Kill(r.Info().KeeperPID, unix.SIGKILL)
		<-r.Done()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := errors.Join(r.Leave(ctx), r.Close()); err != nil {
			t.Error(err)
		}
		webDies()
	})
}

func TestMacvtapRefusals(t *testing.T) {
	lab.Require(t, lab.Root)
	inLab(t, func(t *testing.T, o Options) {
		lab.Sh(t, "ip link add eth1 type veth peer name lan1; ip link set eth1 addrgenmode none up; ip link set lan1 addrgenmode none up")
		web := mustJoin(t, o, macvtap, "web", port(1))
		bridged := mustJoin(t, o, Network{Name: "free", Mode: profiles.Bridge, Uplink: "eth1"}, "db", port(2))
		for name, c := range map[string]struct {
			network Network
			want    string
		}{
			"same-network":   {Network{Name: "lan", Mode: profiles.Bridge}, `VM "x" wants network "lan" without macvtap, VMs [web] run it with`},
			"other-network":  {Network{Name: "y", Mode: profiles.Bridge, Uplink: "eth0"}, `plan network "y": uplink "eth0" carries network "lan" (VM web) by macvtap`},
			"bridged-uplink": {Network{Name: "y", Mode: profiles.Bridge, Uplink: "eth1", Macvtap: true}, `plan network "y": uplink "eth1" is a port of network "free" (VM db)`},
		} {
			if _, err := Join(t.Context(), o, c.network, "x", port(3)); !errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got %v, want a refusal with %q", name, err, c.want)
			}
		}
		mustLeave(t, web)
		mustLeave(t, bridged)
		lab.Sh(t, "ip link del eth1")
	})
}
