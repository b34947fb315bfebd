package keeper_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/profiles"
)

var stress = lab.Stress()

// rounds is how often a test tries: few times in `make test`.
func rounds(few, many int) int {
	if stress {
		return many
	}
	return few
}

var lanNetwork = Network{Name: "lan", Mode: profiles.Bridge}

// hold makes a keeper stop at the failpoint until the returned function is called;
// came is closed when it is there. See TestMain.
func hold(t *testing.T, o Options, point string) (came <-chan struct{}, release func()) {
	t.Helper()
	hook := filepath.Join(filepath.Dir(o.RunDir), "hook")
	if err := os.WriteFile(hook, []byte(point), 0o644); err != nil {
		t.Fatal(err)
	}
	there := make(chan struct{})
	go func() {
		for {
			if _, err := os.Stat(hook + ".met"); err == nil {
				close(there)
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	return there, func() {
		os.Remove(hook)
		os.Remove(hook + ".met")
	}
}

// failAt makes a keeper fail at the failpoint until the returned function is called.
func failAt(t *testing.T, o Options, point string) (mend func()) {
	t.Helper()
	hook := filepath.Join(filepath.Dir(o.RunDir), "hook")
	if err := os.WriteFile(hook, []byte("fail "+point), 0o644); err != nil {
		t.Fatal(err)
	}
	return func() { os.Remove(hook) }
}

// obeyHook is the other end of hold and failAt, in the keeper.
func obeyHook(runDir string) {
	hook := filepath.Join(filepath.Dir(runDir), "hook")
	point, err := os.ReadFile(hook)
	if err != nil {
		return
	}
	failing, fails := strings.CutPrefix(string(point), "fail ")
	failpoint.Set(func(name string) error {
		if fails && name == failing && exists(hook) {
			return errors.New("failpoint")
		}
		if name != string(point) {
			return nil
		}
		os.WriteFile(hook+".met", nil, 0o644)
		for exists(hook + ".met") {
			time.Sleep(time.Millisecond)
		}
		return nil
	})
}

// superviseMain is a supervisor without a VM: it joins, says so, and stays.
func superviseMain(args []string) int {
	o := Options{RunDir: args[0], StateDir: args[1], Exe: []string{"/proc/self/exe", "keeper"}}
	mac, _ := strconv.Atoi(args[3])
	r, err := Join(context.Background(), o, lanNetwork, args[2], port(byte(mac)))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("joined")
	<-r.Done()
	return 0
}

// supervise starts one.
func supervise(t *testing.T, o Options, vm string, mac int) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "supervise", o.RunDir, o.StateDir, vm, strconv.Itoa(mac))
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	wait, err := lab.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	go wait()
	t.Cleanup(func() { cmd.Process.Kill() })
	return cmd
}

// keeperPID finds the network's keeper, 0 if there is none.
func keeperPID(o Options) int {
	list, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range list {
		b, _ := os.ReadFile(path)
		args := strings.Split(string(b), "\x00")
		if slices.Contains(args, o.RunDir) && len(args) > 2 && args[1] == "keeper" && args[2] == "--run-dir" {
			pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
			return pid
		}
	}
	return 0
}

// witness looks all the time whether the host has its address, on any link.
type witness struct {
	quit    chan struct{}
	done    chan struct{}
	looks   atomic.Int64
	without atomic.Int64
}

func watchAddress() *witness {
	w := &witness{quit: make(chan struct{}), done: make(chan struct{})}
	want := netip.MustParseAddr(lab.LANHost)
	go func() {
		defer close(w.done)
		for {
			select {
			case <-w.quit:
				return
			default:
			}
			addrs, err := net.InterfaceAddrs()
			if err != nil {
				continue
			}
			w.looks.Add(1)
			if !slices.ContainsFunc(addrs, func(a net.Addr) bool { return strings.HasPrefix(a.String(), want.String()+"/") }) {
				w.without.Add(1)
			}
		}
	}()
	return w
}

func (w *witness) stop(t *testing.T) {
	t.Helper()
	close(w.quit)
	<-w.done
	if n := w.without.Load(); n > 0 {
		t.Errorf("the host was without its address in %d of %d looks", n, w.looks.Load())
	}
}

func onBridge() bool {
	return exists("/sys/class/net/qn-lan/brif/eth0")
}

func offBridge() bool {
	return !exists("/sys/class/net/qn-lan")
}

// Two VMs share the uplink. The end of the last one puts the NIC back, however each
// ends.
func TestLastVMPutsTheNICBack(t *testing.T) {
	inLAN(t, lab.LANOptions{Static: true}, func(t *testing.T, _ *lab.LAN, o Options) {
		pings := lab.PingFrom(t, "outside", lab.LANHost)
		for _, order := range [][2]int{{0, 1}, {1, 0}} {
			for _, kills := range [][2]bool{{false, false}, {false, true}, {true, false}, {true, true}} {
				regs := []*Registration{mustJoin(t, o, lanNetwork, "web", port(1)), mustJoin(t, o, lanNetwork, "db", port(2))}
				end := func(i int) {
					if kills[i] {
						die(regs[order[i]])
					} else {
						mustLeave(t, regs[order[i]])
					}
				}
				end(0)
				lab.Eventually(t, 2*time.Second, "the first VM's port is gone", func() bool {
					_, err := os.Stat("/sys/class/net/" + regs[order[0]].Ports()[0].Tap)
					return err != nil
				})
				if !onBridge() || !lab.Pings("", lab.LANInternet) {
					t.Errorf("%v %v: with one VM left, the NIC is no port or leads nowhere", order, kills)
				}
				end(1)
				lab.Eventually(t, 2*time.Second, "the NIC is back", offBridge)
				if !lab.Pings("", lab.LANInternet) {
					t.Errorf("%v %v: afterwards the host reaches nothing", order, kills)
				}
			}
		}
		lab.Eventually(t, 2*time.Second, "the run directory is gone", func() bool { _, err := os.Stat(o.RunDir); return err != nil })
		if c := pings(); c.Lost > lab.MoveLoss {
			t.Errorf("pings of 8 moves and 8 ways back: %s", c)
		}
	})
}

// joining joins lanNetwork in the background, and returns a channel of the result.
func joining(o Options) <-chan error {
	result := make(chan error, 1)
	go func() {
		_, err := Join(context.Background(), o, lanNetwork, "web", port(1))
		result <- err
	}()
	return result
}

// If a gateway answers before the move and not after it, the keeper moves all back in
// time, and the error names the gateway.
func TestDeadGatewayRollsBack(t *testing.T) {
	inLAN(t, lab.LANOptions{Static: true}, func(t *testing.T, lan *lab.LAN, o Options) {
		n, failed, worst := rounds(1, 100), 0, time.Duration(0)
		before := lab.Snapshot(t)
		for range n {
			came, release := hold(t, o, "move: NIC is a port")
			result := joining(o)
			<-came
			lan.Cable("gateway", false)
			begin := time.Now()
			release()
			err := <-result
			took := time.Since(begin)
			worst = max(worst, took)
			lan.Cable("gateway", true)
			if !errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), lab.LANGateway) || took > 5*time.Second {
				t.Errorf("after %s: %v", took, err)
				failed++
			}
			before.Check(t)
		}
		t.Logf("| dead gateway | %d moves | %d not back within 5 s | worst %.1f s |", n, failed, worst.Seconds())
	})
}

// A gateway whose MAC changes with the move counts as another one.
func TestOtherGatewayRollsBack(t *testing.T) {
	inLAN(t, lab.LANOptions{Static: true}, func(t *testing.T, _ *lab.LAN, o Options) {
		came, release := hold(t, o, "move: NIC is a port")
		result := joining(o)
		<-came
		was := strings.TrimSpace(lab.Sh(t, "ip netns exec gateway cat /sys/class/net/eth0/address"))
		lab.Sh(t, "ip -n gateway link set eth0 address 02:00:00:00:00:99")
		release()
		if err := <-result; !errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), "heard: 192.0.2.1 (02:00:00:00:00:99)") {
			t.Error(err)
		}
		lab.Sh(t, "ip -n gateway link set eth0 address "+was)
	})
}

// Join refuses a move that cannot be verified, or that may cut the user's own session,
// unless AssumeYes is set.
func TestMoveNeedsAssumeYes(t *testing.T) {
	inLAN(t, lab.LANOptions{Static: true}, func(t *testing.T, lan *lab.LAN, o Options) {
		n := lanNetwork
		refused := func(o Options, words string) {
			t.Helper()
			before := lab.Snapshot(t, o.RunDir)
			_, err := Join(t.Context(), o, n, "web", port(1))
			if !errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), words) || !strings.Contains(err.Error(), "--assume-yes") {
				t.Errorf("got %v, want a refusal with %q", err, words)
			}
			before.Check(t)
		}
		remote := o
		remote.Peer = netip.MustParseAddr(lab.LANOutside)
		refused(remote, "your own session from 192.0.2.20")
		remote.Peer = netip.MustParseAddr("198.18.0.1") // beyond the gateway
		refused(remote, "your own session from 198.18.0.1")
		lan.Cable("gateway", false)
		refused(o, "192.0.2.1 does not answer now")
		yes := o
		yes.AssumeYes = true
		mustLeave(t, mustJoin(t, yes, n, "web", port(1)))
		lan.Cable("gateway", true)
		lab.Sh(t, "ip route del default")
		n.Uplink = "eth0"
		refused(o, "no default route leads by it")
		mustLeave(t, mustJoin(t, yes, n, "web", port(1)))
		lab.Sh(t, "ip route add default via "+lab.LANGateway)
	})
}

// kill targets.
const (
	killKeeper = iota
	killSupervisor
	killBothAtOnce
	killOnTheWayBack // the supervisor, and then the keeper that is undoing
	killKinds
)

// The keeper, the supervisor or both get SIGKILL at any instant of the move or of the
// way back. The host always has its address, and is back on its NIC within 2 s of the last
// kill.
func TestKilledInTheMiddle(t *testing.T) {
	inLAN(t, lab.LANOptions{Static: true}, func(t *testing.T, _ *lab.LAN, o Options) {
		before := lab.Snapshot(t, o.RunDir)
		pings := lab.PingFrom(t, "outside", lab.LANHost)
		w := watchAddress()
		n, late, worst, midway := rounds(8, 100), 0, time.Duration(0), 0
		for i := range n {
			took, mid := killOnce(t, o, i%killKinds, i/killKinds%2 == 0)
			worst = max(worst, took)
			if mid {
				midway++
			}
			if took > 2*time.Second {
				late++
				t.Errorf("kill %d (kind %d): the host was back after %s", i, i%killKinds, took)
			}
			before.Check(t)
		}
		w.stop(t)
		c := pings()
		t.Logf("| kills | %d, %d while the NIC was a port | %d not back within 2 s, worst %.2f s | without its address in %d of %d looks | pings: %s |",
			n, midway, late, worst.Seconds(), w.without.Load(), w.looks.Load(), c)
		if c.Lost > n {
			t.Errorf("pings: %s", c)
		}
	})
}

// killOnce kills at a random instant, then what is left. It returns how long the host
// took to be back, and whether the NIC was a port at the kill. The instant is within the
// move itself, or, unless within is set, anywhere in a start.
func killOnce(t *testing.T, o Options, what int, within bool) (took time.Duration, midway bool) {
	t.Helper()
	s := supervise(t, o, "web", 1)
	switch {
	case what == killOnTheWayBack:
		await(t, "the VM is on the network", func() bool { return exists("/sys/class/net/qnweb0") })
		s.Process.Kill()
		if within {
			await(t, "the way back", func() bool { return !exists("/sys/class/net/qnweb0") })
		}
	case within:
		await(t, "the bridge", func() bool { return !offBridge() })
	default:
		await(t, "a keeper", func() bool { return keeperPID(o) != 0 })
	}
	pid := keeperPID(o) // takes some milliseconds
	time.Sleep(time.Duration(rand.Int64N(int64(moveTime))))
	midway = onBridge()
	if what != killSupervisor && pid != 0 {
		unix.Kill(pid, unix.SIGKILL)
	}
	if what == killKeeper {
		// The supervisor lives, and finishes what it began with another keeper.
		await(t, "the next keeper has moved the host", func() bool { return onBridge() && keeperPID(o) != 0 })
	}
	s.Process.Kill()
	begin := time.Now()
	await(t, "the host is back", offBridge)
	took = time.Since(begin)
	await(t, "the network's end", func() bool { return !exists(journalOf(o, "lan")) && keeperPID(o) == 0 })
	// A keeper that the supervisor had just started makes its lock files, and ends.
	await(t, "the lock files of the dead are collected", func() bool {
		if _, err := Collect(t.Context(), o); err != nil {
			t.Error(err)
		}
		return !exists(rundir.Locks(o.RunDir))
	})
	return took, midway
}

// moveTime is about how long a keeper takes for a move, without the race detector.
const moveTime = 10 * time.Millisecond

// await polls without a pause: what follows must come at once.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); !ok(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 15 s", what)
		}
	}
}

// A move and the way back cost no ping and no TCP connection.
func TestHundredMoves(t *testing.T) {
	inLAN(t, lab.LANOptions{Static: true, RA: true}, func(t *testing.T, lan *lab.LAN, o Options) {
		address6 := lan.AwaitSLAAC("eth0")
		before := lab.Snapshot(t, o.RunDir)
		around := 300 * time.Millisecond
		measure := func(do func()) (four, six lab.Continuity) {
			ping4, ping6 := lab.PingFrom(t, "outside", lab.LANHost), lab.PingFrom(t, "outside", address6)
			time.Sleep(around)
			do()
			time.Sleep(around)
			return ping4(), ping6()
		}
		n := rounds(1, 100)
		talk, talk6 := lab.Talk(t, "outside", lab.LANHost), lab.Talk(t, "outside", address6)
		var still, there, back, still6, there6, back6 lab.Continuity
		for range n {
			c, d := measure(func() { time.Sleep(50 * time.Millisecond) })
			still, still6 = still.And(c), still6.And(d)
			var r *Registration
			c, d = measure(func() { r = mustJoin(t, o, lanNetwork, "web", port(1)) })
			there, there6 = there.And(c), there6.And(d)
			c, d = measure(func() { mustLeave(t, r) })
			back, back6 = back.And(c), back6.And(d)
		}
		tcp, tcp6 := talk(), talk6()
		lab.Eventually(t, 6*time.Second, "the host is as before", func() bool { return lab.Diff(before, lab.Snapshot(t, o.RunDir)) == "" })
		t.Logf("| %d moves, IPv4 | without one, for comparison: %s | moves: %s | ways back: %s |", n, still, there, back)
		t.Logf("| %d moves, IPv6 | without one, for comparison: %s | moves: %s | ways back: %s |", n, still6, there6, back6)
		t.Logf("| one TCP connection over all | IPv4: %s | IPv6: %s |", tcp, tcp6)
		// An IPv6 echo request is answered by the link it came in on: in the moment that
		// this is the bridge and the bridge does not send, the answer is lost, and no more.
		if there.Lost+back.Lost > n/10+1 || there6.Lost+back6.Lost > n/2+1 || tcp.Lost+tcp6.Lost > 0 {
			t.Error("pings or lines of the TCP connection were lost")
		}
	})
}

// Another program takes the NIC out of the bridge, the addresses off it, or the bridge
// away. The keeper does the move again, and the way back is as ever.
func TestMoveIsMended(t *testing.T) {
	inLAN(t, lab.LANOptions{Static: true}, func(t *testing.T, _ *lab.LAN, o Options) {
		lab.Sh(t, "ip addr add 192.0.2.11/24 dev eth0 label eth0:1; ip addr add 2001:db8:2::10/64 dev eth0 nodad; ip -6 route add default via "+lab.LANGateway6+"; ip route add 198.51.100.0/24 via 192.0.2.1 table 7")
		before := lab.Snapshot(t)
		r := mustJoin(t, o, lanNetwork, "web", port(1))
		for _, attack := range []string{
			"ip link set eth0 nomaster", "ip addr flush dev qn-lan scope global", "ip link del qn-lan",
		} {
			lab.Sh(t, attack)
			lab.Eventually(t, 5*time.Second, "mended: "+attack, func() bool {
				return onBridge() && lab.Pings("", lab.LANInternet) && lab.Pings("outside", lab.LANHost)
			})
		}
		if !lab.Pings("", lab.LANInternet6) {
			t.Error("the host has lost IPv6")
		}
		mustLeave(t, r)
		before.Check(t)
		lab.Sh(t, "ip route del 198.51.100.0/24 table 7; ip -6 route del default; ip addr del 2001:db8:2::10/64 dev eth0; ip addr del 192.0.2.11/24 dev eth0")
	})
}

// Addresses and routes that the host gets while its NIC is a port come along on the way
// back.
func TestWhatIsAddedMeanwhileComesBack(t *testing.T) {
	inLAN(t, lab.LANOptions{Static: true}, func(t *testing.T, _ *lab.LAN, o Options) {
		r := mustJoin(t, o, lanNetwork, "web", port(1))
		lab.Sh(t, "ip addr add 192.0.2.30/24 dev qn-lan label qn-lan:x; ip route add 198.51.100.0/24 via 192.0.2.1 dev qn-lan src 192.0.2.30; ip rule add iif qn-lan lookup 7 priority 99")
		mustLeave(t, r)
		for _, c := range []string{
			"ip -o addr show dev eth0 | grep -q '192.0.2.30/24 scope global secondary eth0:x'",
			"ip route show 198.51.100.0/24 | grep -q 'via 192.0.2.1 dev eth0 src 192.0.2.30'", "ip rule | grep -q '99:.*iif eth0 lookup 7'",
		} {
			if _, err := lab.Try(c); err != nil {
				t.Errorf("%s\n%s", c, lab.Sh(t, "ip addr show dev eth0; ip route; ip rule"))
			}
		}
		lab.Sh(t, "ip rule del priority 99; ip route del 198.51.100.0/24; ip addr del 192.0.2.30/24 dev eth0")
	})
}

// Without the journal, Collect finds the network by its marks, and puts the host back.
func TestMoveBackWithoutJournal(t *testing.T) {
	inLAN(t, lab.LANOptions{Static: true}, func(t *testing.T, _ *lab.LAN, o Options) {
		lab.Sh(t, `ip link set eth0 down; ip link set eth0 addrgenmode eui64 up; ip route add default via 192.0.2.1
ip addr add 192.0.2.11/24 dev eth0 label eth0:1; ip addr add 2001:db8:2::10/64 dev eth0 nodad`)
		lab.Eventually(t, 5*time.Second, "the link-local address is checked", func() bool {
			return lab.Sh(t, "ip -6 addr show dev eth0 scope link -tentative") != ""
		})
		before := lab.Snapshot(t)
		r := mustJoin(t, o, lanNetwork, "web", port(1))
		if err := os.WriteFile(journalOf(o, "lan"), []byte("{"), 0o644); err != nil {
			t.Fatal(err)
		}
		killBoth(t, r)
		lab.Eventually(t, 5*time.Second, "the watchdog puts the host back", offBridge)
		if _, err := Collect(t.Context(), o); err != nil {
			t.Error(err)
		}
		before.Check(t)
		lab.Sh(t, "ip addr del 2001:db8:2::10/64 dev eth0; ip addr del 192.0.2.11/24 dev eth0; ip link set eth0 addrgenmode none; ip -6 addr flush dev eth0")
	})
}
