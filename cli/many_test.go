package cli

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/keeper"
)

// halted are the arguments to run a VM whose firmware halts at once, so that many
// cost no CPU: cli; hlt; jmp back at the reset vector.
func (l *testHost) halted(name, network string) []string {
	l.Helper()
	bios := filepath.Join(l.dir, "halt.bios")
	rom := make([]byte, 64<<10)
	copy(rom[0xfff0:], []byte{0xfa, 0xf4, 0xeb, 0xfd})
	if _, err := os.Stat(bios); err != nil {
		if err := os.WriteFile(bios, rom, 0o644); err != nil {
			l.Fatal(err)
		}
	}
	path := l.profile(name, "memory = \"32MiB\"\naccel = \"tcg\"\n[[nic]]\nmode = \"nat\"\nnetwork = \""+network+"\"\n")
	return []string{path, "--", "-bios", bios}
}

func runDetached(args []string) []string { return append([]string{"run", "-d"}, args...) }

func (l *testHost) running() []control.State {
	l.Helper()
	var all []control.State
	if err := json.Unmarshal([]byte(l.must("ps", "--json")), &all); err != nil {
		l.Fatal(err)
	}
	return all
}

// Many runs start together, on one network and on one each, and half of them are
// stopped at random moments: no start fails, nothing is there twice, nothing stays.
func TestManyRuns(t *testing.T) {
	rounds, runs := 2, 8
	if stress {
		rounds, runs = 20, 30
	}
	inLab(t, func(l *testHost) {
		var worst time.Duration
		for round := range rounds {
			begin := time.Now()
			var started []*process
			for i := range runs {
				network := "dev"
				if round%2 == 1 {
					network = fmt.Sprintf("net%d", i)
				}
				started = append(started, l.start(append([]string{"run"}, l.halted(fmt.Sprintf("v%d", i), network)...)...))
			}
			var stops sync.WaitGroup
			for i := range runs / 2 {
				after := time.Duration(rand.IntN(1500)) * time.Millisecond
				stops.Go(func() {
					time.Sleep(after)
					l.command("stop", "--force", fmt.Sprintf("v%d", i)).Run()
				})
			}
			lab.Eventually(t, 60*time.Second, "all that were not stopped run", func() bool {
				n := 0
				for _, s := range l.running() {
					if s.State == control.Running {
						n++
					}
				}
				return n >= runs-runs/2
			})
			worst = max(worst, time.Since(begin))
			l.unique()
			stops.Wait()
			l.stopAll()
			for i, p := range started {
				code := p.end(30 * time.Second)
				if stopped := i < runs/2 && code == exitInterrupted; code != 0 && !stopped {
					t.Errorf("round %d: v%d: exit code %d: %s", round, i, code, &p.errout)
				}
			}
			l.before.Check(t)
		}
		t.Logf("| %d rounds of %d runs | slowest until all ran %s |", rounds, runs, worst.Truncate(time.Millisecond))
	})
}

// unique checks that no two running NICs share a MAC, tap or address.
func (l *testHost) unique() {
	l.Helper()
	seen := map[string]string{}
	for _, s := range l.running() {
		for _, n := range s.NICs {
			for _, value := range []string{n.MAC.String(), n.Tap, n.Network + " " + n.Address.String()} {
				if other, ok := seen[value]; ok {
					l.Errorf("%s and %s both have %s", s.Name, other, value)
				}
				seen[value] = s.Name
			}
		}
	}
}

// Running and stopping VMs again and again leaves the keeper of the network, which
// another VM keeps alive, as it was.
func TestCycles(t *testing.T) {
	cycles := 8
	if stress {
		cycles = 1000
	}
	inLab(t, func(l *testHost) {
		l.must(runDetached(l.halted("stays", "dev"))...)
		path := l.halted("cycle", "dev")
		cycle := func() {
			l.must(runDetached(path)...)
			l.must("stop", "--force", "cycle")
		}
		for range 6 { // what is kept from the first rounds is no growth
			cycle()
		}
		pid := l.networks()[0].KeeperPID
		count := func() (fds, kib int) {
			files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
			if err != nil {
				t.Fatal(err)
			}
			return len(files), lab.PSS(t, pid)
		}
		between := lab.Snapshot(t, l.dir)
		fds, kib := count()
		begin := time.Now()
		for range cycles {
			cycle()
		}
		took := time.Since(begin) / time.Duration(cycles)
		nowFDs, nowKiB := count()
		// A quarter more, not so much more: the race detector takes several times as much of all.
		if nowFDs > fds+2 || nowKiB > kib*5/4 {
			t.Errorf("the keeper had %d files and %d KiB, and has %d and %d", fds, kib, nowFDs, nowKiB)
		}
		between.Check(t)
		t.Logf("| %d cycles of %s | keeper: %d files and %d KiB, then %d and %d |", cycles, took.Truncate(time.Millisecond), fds, kib, nowFDs, nowKiB)
		l.must("stop", "--force", "stays")
	})
}

func (l *testHost) networks() []keeper.Info {
	l.Helper()
	var infos []keeper.Info
	lab.Eventually(l, 10*time.Second, "a keeper answers", func() bool { // another one may be taking over
		if err := json.Unmarshal([]byte(l.must("net", "--json")), &infos); err != nil {
			l.Fatal(err)
		}
		return len(infos) > 0
	})
	return infos
}

// Two hundred VMs on one network: nothing grows faster than their number.
func TestTwoHundredVMs(t *testing.T) {
	vms := 6
	if stress {
		vms = 200
	}
	inLab(t, func(l *testHost) {
		var took []time.Duration
		for i := range vms {
			path := l.halted(fmt.Sprintf("v%d", i), "dev")
			begin := time.Now()
			l.must(runDetached(path)...)
			took = append(took, time.Since(begin))
		}
		first, last := median(took[:min(9, vms/2)]), median(took[vms-min(9, vms/2):])
		supervisors := 0
		for _, s := range l.running() {
			supervisors += lab.PSS(t, s.PID)
		}
		kib := lab.PSS(t, l.networks()[0].KeeperPID)
		begin := time.Now()
		for i := range vms {
			l.must("stop", "--force", fmt.Sprintf("v%d", i))
		}
		stop := time.Since(begin) / time.Duration(vms)
		t.Logf("| %d VMs | launch of the first %s, of the last %s: %.2f times | PSS of the keeper %d KiB, of a supervisor %d KiB | stop %s each |",
			vms, first.Truncate(time.Millisecond), last.Truncate(time.Millisecond), float64(last)/float64(first), kib, supervisors/vms, stop.Truncate(time.Millisecond))
		if last > 3*first {
			t.Errorf("the last launch took %s, the first %s", last, first)
		}
		l.before.Check(t)
	})
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}

// The second of two that want the same is refused, and both are named.
func TestConflicts(t *testing.T) {
	inLab(t, func(l *testHost) {
		mac := "mac = \"52:54:00:00:00:77\"\n"
		nic := "[[nic]]\nmode = \"nat\"\n"
		pin := "[network.nat]\nsubnet = \"10.57.0.0/24\"\n"
		first := l.profile("first", idle+nic+mac+"address = \"10.57.0.7\"\n"+pin)
		l.must("run", "-d", first)
		l.refused(exitFailure, []string{`"first"`, "first.toml", "running already"}, "run", first)
		l.refused(exitFailure, []string{`"first"`, "first.toml"}, "run", "--name", "first", l.profile("second", idle+nic))
		l.refused(exitIncapable, []string{`"second"`, `"first"`, "52:54:00:00:00:77"}, "run", l.profile("second", idle+nic+mac))
		l.refused(exitIncapable, []string{`"second"`, `"first"`, "10.57.0.7"}, "run", l.profile("second", idle+nic+"address = \"10.57.0.7\"\n"+pin))
		l.must("stop", "--force", "first")
	})
}

// Whatever dies of a VM, or of the network's keeper, another VM of the network
// keeps its address, its bridge, and the connections that pass it.
func TestOthersSurvive(t *testing.T) {
	inLab(t, func(l *testHost) {
		stays := l.halted("stays", "dev")
		l.must(runDetached(stays)...)
		before := l.state("stays")
		info := l.networks()[0]
		// A guest of the same network whose TCP connection goes through NAT.
		free := info.Prefix.Addr()
		for range 250 {
			free = free.Next()
		}
		lab.Guest(t, "vm1", info.Bridge, fmt.Sprintf("%s/%d", free, info.Prefix.Bits()), info.Gateway.String())
		say := lab.Conversation(t, "vm1")
		if !say("hello") {
			t.Fatal("no conversation to begin with")
		}
		for round, action := range []string{killSupervisor, killQEMU, killKeeper, killSupervisor, killKeeper} {
			l.must(runDetached(l.halted("other", "dev"))...)
			other := l.state("other")
			pid := map[string]int{killSupervisor: other.PID, killQEMU: other.QEMU, killKeeper: l.networks()[0].KeeperPID}[action]
			lab.Sh(t, "kill -9 "+itoa(pid))
			if !say(fmt.Sprint("round ", round)) {
				t.Errorf("%s: the connection of another VM broke", action)
			}
			if action == killKeeper {
				lab.Eventually(t, 5*time.Second, "the next keeper", func() bool {
					out := l.must("net")
					return strings.Contains(out, "other,stays") && !strings.Contains(out, itoa(pid))
				})
				l.must("stop", "--force", "other")
			}
			lab.Eventually(t, 5*time.Second, action+": the other VM's part gone", func() bool {
				_, err := lab.Try("ip link show qnother0")
				_, left := os.Stat(filepath.Join(l.run, "vms/other"))
				return err != nil && left != nil
			})
			now := l.state("stays")
			if now.PID != before.PID || now.QEMU != before.QEMU || now.NICs[0].Address != before.NICs[0].Address || now.State != control.Running {
				t.Errorf("%s: the VM that stays was %+v, is %+v", action, before, now)
			}
			if again := l.networks()[0]; again.Bridge != info.Bridge || again.Prefix != info.Prefix {
				t.Errorf("%s: the network was %+v, is %+v", action, info, again)
			}
		}
		lab.Sh(t, "ip link del vvm1; ip netns del vm1")
		l.must("stop", "--force", "stays")
	})
}
