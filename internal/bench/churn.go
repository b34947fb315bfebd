package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/bench/contest"
	"github.com/qnet-vm/qnet/internal/bench/rig"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

const (
	// churnTime is how long the keeper's CPU time is measured while routes change.
	churnTime = 10 * time.Second
	// churnInterval is the time between two changes.
	churnInterval = 10 * time.Millisecond
	// churnPairs is how many pairs are enough: the sides are not close.
	churnPairs = 3
)

// table is what a routing daemon keeps in the kernel.
type table struct {
	family int
	routes int
}

func (t table) String() string {
	count := strings.Replace(fmt.Sprintf("%d,000", t.routes/1000), "1000,", "1,000,", 1)
	return fmt.Sprintf("%s IPv%s routes", count, t.word())
}

// churn measures the keeper of a nat network, and a plan, on a host that speaks BGP. The other
// side is the earlier build, if there is one.
func (b *bench) churn() error {
	defer func(pairs int) { b.Pairs = pairs }(b.Pairs)
	b.Pairs = min(b.Pairs, churnPairs)
	for _, t := range []table{{unix.AF_INET, 200_000}, {unix.AF_INET, 1_000_000}, {unix.AF_INET6, 200_000}} {
		if err := b.fill(t); err != nil {
			return err
		}
		err := b.churnOf(t)
		if err := errors.Join(err, rig.Sh(fmt.Sprintf("ip -%s route flush proto bird", t.word()))); err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
	}
	return nil
}

func (t table) word() string {
	if t.family == unix.AF_INET6 {
		return "6"
	}
	return "4"
}

// fill makes the routes, all by eth0, in parts that a busy machine makes within a minute.
func (b *bench) fill(t table) error {
	const part = 100_000
	for first := 0; first < t.routes; first += part {
		if err := b.fillPart(t, first, first+part); err != nil {
			return err
		}
	}
	return rig.Sh("ip link set eth1 up")
}

func (b *bench) fillPart(t table, first, end int) error {
	path := filepath.Join(b.Dir, "table")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	script := bufio.NewWriter(f)
	for i := first; i < end; i++ {
		if t.family == unix.AF_INET6 {
			fmt.Fprintf(script, "route add 2a00:%x:%x::/48 dev eth0 proto bird\n", i>>16, i&0xffff)
		} else {
			fmt.Fprintf(script, "route add %d.%d.%d.0/22 via 192.0.2.1 proto bird\n", 20+i>>14, i>>6&0xff, i<<2&0xff)
		}
	}
	if err := errors.Join(script.Flush(), f.Close()); err != nil {
		return err
	}
	return rig.Sh("ip -batch " + path)
}

func (b *bench) churnOf(t table) error {
	rows := []contest.Row{
		{What: "keeper, 100 changes a second in " + t.String(), Unit: "% of a core", Limit: 5},
		{What: "the same, peak of its memory (RSS)", Unit: "MB", Limit: 32},
		{What: "the same, until an uplink that appears forwards", Unit: "ms", Limit: 2000},
		{What: "the same, until a bridge that is set down is up", Unit: "ms", Limit: 2000},
		{What: "qnet plan with " + t.String(), Unit: "ms", Limit: 2000},
		{What: "the same, peak of its memory (RSS)", Unit: "MB", Limit: 64},
	}
	var earlier contest.Side
	if b.earlier != "" {
		for i := range rows {
			rows[i].Against = "the earlier build"
		}
		earlier = func() ([]float64, error) { return b.churnOnce(b.earlier, t) }
	}
	return b.Contest(rows, func() ([]float64, error) { return b.churnOnce(b.Qnet, t) }, earlier)
}

func (b *bench) churnOnce(qnet string, t table) ([]float64, error) {
	r := *b.Rig
	r.Qnet = qnet
	v, err := r.QnetVM(rig.Spec{Name: "churn", Mode: "nat", Halted: true})
	if err != nil {
		return nil, err
	}
	figures, err := b.whileRoutesChange(t)
	if _, _, killErr := v.Kill(); err == nil {
		err = killErr
	}
	if err != nil {
		return nil, err
	}
	took, peak, err := peakOf(qnet, "plan", filepath.Join(b.Dir, "churn.toml"))
	return append(figures, ms(took), peak), err
}

// whileRoutesChange measures the keeper.
func (b *bench) whileRoutesChange(t table) ([]float64, error) {
	pids := rig.Processes("keeper", "--run-dir", b.Dir)
	if len(pids) != 1 {
		return nil, fmt.Errorf("keepers %v", pids)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var changes sync.WaitGroup
	var failed error
	changes.Go(func() { failed = change(ctx, t) })
	share, err := cpuShare(pids[0], churnTime)
	var uplink, bridge time.Duration
	if err == nil {
		uplink, err = reaction("ip route add 198.18.0.0/15 dev eth1; ip route add default dev eth1 metric 500",
			"sysctl -n net.ipv4.conf.eth1.forwarding | grep -q 1", "ip route flush dev eth1")
	}
	if err == nil {
		bridge, err = reaction("ip link set qn-nat down", "ip -br link show qn-nat up | grep -q qn-nat", "true")
	}
	cancel()
	changes.Wait()
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, err
	}
	peak, err := field(pids[0], "VmHWM:")
	return []float64{share, peak / 1024, ms(uplink), ms(bridge)}, err
}

// change adds and deletes one route in turns until ctx ends.
func change(ctx context.Context, t table) error {
	header := []byte{byte(t.family), 24, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BIRD, 0, unix.RTN_UNICAST, 0, 0, 0, 0}
	dst := []byte{20, 9, 9, 0}
	if t.family == unix.AF_INET6 {
		header[1], dst = 64, []byte{0x2a, 0, 0, 0, 0, 9, 0, 9, 15: 0}
	} else {
		header[6] = unix.RT_SCOPE_LINK
	}
	index, err := os.ReadFile("/sys/class/net/eth0/ifindex")
	if err != nil {
		return err
	}
	link, err := strconv.Atoi(strings.TrimSpace(string(index)))
	if err != nil {
		return err
	}
	route := rtnl.Route{Message: rtnl.Append(header, rtnl.Attr{Type: unix.RTA_DST, Value: dst}, rtnl.Uint32(unix.RTA_OIF, uint32(link)))}
	tick := time.NewTicker(churnInterval)
	defer tick.Stop()
	for there := false; ctx.Err() == nil; there = !there {
		<-tick.C
		request := rtnl.ReplaceRoute("eth0", route)
		if there {
			request = rtnl.DelRoute("eth0", route)
		}
		if err := rtnl.Send(request); err != nil {
			return err
		}
	}
	return nil
}

// reaction returns how long it takes to run a script until a condition holds, and runs another
// script then.
func reaction(script, holds, back string) (time.Duration, error) {
	begin := time.Now()
	if err := rig.Sh(script); err != nil {
		return 0, err
	}
	err := rig.Eventually(holds, time.Minute, func() bool { return exec.Command("sh", "-c", holds).Run() == nil })
	took := time.Since(begin)
	if err != nil {
		return 0, err
	}
	return took, rig.Sh(back)
}

// cpuShare returns the CPU time that a process uses, in percent of a core.
func cpuShare(pid int, within time.Duration) (float64, error) {
	before, err := cpuTime(pid)
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	time.Sleep(within)
	after, err := cpuTime(pid)
	return 100 * float64(after-before) / float64(time.Since(begin)), err
}

// cpuTime reads utime and stime of /proc/PID/stat, which count in 1/100 s (proc(5)).
func cpuTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), ") ") // the name may hold spaces
	var ticks int
	for _, word := range strings.Fields(rest)[11:13] {
		n, err := strconv.Atoi(word)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// field reads a number of /proc/PID/status.
func field(pid int, name string) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if words := strings.Fields(line); words[0] == name {
			return strconv.ParseFloat(words[1], 64)
		}
	}
	return 0, fmt.Errorf("process %d has no %s", pid, name)
}

// peakOf runs a command and returns how long it took, and the peak of its memory in MB.
func peakOf(argv ...string) (time.Duration, float64, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out)
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return time.Since(begin), float64(usage.Maxrss) / 1024, nil
}
