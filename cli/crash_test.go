package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
)

// stress says that `make stress` runs the tests: they try everything, and not only the
// part that `make test` has time for.
var stress = lab.Stress()

// cells is how many cells of the matrix a mode gets without stress.
const cells = 10

var actions = []string{fail, panics, killKeeper, killSupervisor, killQEMU, killSteward, killClerk, killAll}

// crash is one mode's part of the matrix.
type crash struct {
	*testHost
	mode, path string
	tried      int
	failed     int
	worst      time.Duration // until the host was as before, after a single kill
}

// Whatever happens at whichever point of a VM's life, nothing is left.
func TestCrashMatrix(t *testing.T) {
	// In "move", the NIC that becomes a port is the host's own.
	for _, mode := range []string{"private", "host-only", "nat", "bridge", "move"} {
		t.Run(mode, func(t *testing.T) {
			inLab(t, func(l *testHost) {
				lab.Sh(t, "ip link add lan0 type veth peer name lan1; ip link set lan0 addrgenmode none up; ip link set lan1 addrgenmode none up; "+
					"until ip -6 route show table local dev lan1 | grep -q ff00; do sleep 0.05; done; ip link set lan0 down; "+ // the kernel tells IPv6 of a carrier later still
					"until ip link show lan1 | grep -q LOWERLAYERDOWN; do sleep 0.05; done") // the kernel reports a carrier late
				l.prepared()
				more := ""
				switch mode {
				case "bridge":
					more = "[network.dev]\nuplink = \"lan0\"\n"
				case "host-only":
					more = "[network.dev]\nipv6 = \"auto\"\n"
				case "nat": // sockets, and rules beside them
					more = `ports = ["*:18080:80", "127.0.0.1:18081:80"]` + "\n" + `isolated = true
host = "none"
lan = false
egress = ["deb.example", "192.0.2.0/24:22"]
[network.dev]
ipv6 = "auto"
`
				}
				nic := strings.Replace(mode, "move", "bridge", 1)
				c := &crash{testHost: l, mode: mode, path: l.profile("c", idle+"[[nic]]\nmode = \""+nic+"\"\nnetwork = \"dev\"\n"+more)}
				c.matrix()
			})
		})
	}
}

func (c *crash) matrix() {
	c.Helper()
	points := c.record()
	if len(points) < 20 {
		c.Fatalf("%d points only: %v", len(points), points)
	}
	stride := max(len(points)*len(actions)/cells, 1)
	if stress {
		stride = 1
	}
	for i := len(c.mode); i < len(points)*len(actions); i += stride {
		c.cell(points[i/len(actions)], actions[i%len(actions)])
	}
	c.Logf("| %s | %d points | %d cells | %d failed | worst recovery after one kill %s |", c.mode, len(points), c.tried, c.failed, c.worst.Truncate(time.Millisecond))
}

func (c *crash) order(text string) {
	c.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, "failpoint"), []byte(text), 0o644); err != nil {
		c.Fatal(err)
	}
}

// record lists the points of an ordinary life.
func (c *crash) record() []string {
	c.Helper()
	c.order("record")
	c.live()
	os.Remove(filepath.Join(c.dir, "failpoint"))
	b, err := os.ReadFile(filepath.Join(c.dir, "points"))
	if err != nil {
		c.Fatal(err)
	}
	c.before.Check(c.T)
	return strings.Fields(string(b))
}

// live runs the VM and stops it once it runs, if it comes that far. It returns how long
// the host took to be as before.
func (c *crash) live() time.Duration {
	c.Helper()
	p := c.start("run", c.path)
	defer func() { <-p.done }()
	control := filepath.Join(c.run, "vms/c/control.sock")
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		select {
		case <-p.done:
			return c.recovered()
		case <-time.After(10 * time.Millisecond):
		}
		if _, err := os.Stat(control); err != nil {
			continue
		}
		if _, out, _ := c.qnet("ps"); strings.Contains(out, "running") {
			break
		}
	}
	c.awaitClerk(p)
	c.qnet("stop", "--force", "c")
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		p.Process.Kill()
		c.Errorf("does not stop: %s", &p.errout)
	}
	return c.recovered()
}

// awaitClerk waits until what is to happen in a steward or clerk has happened: they start behind
// the VM.
func (c *crash) awaitClerk(p *process) {
	c.Helper()
	path := filepath.Join(c.dir, "failpoint")
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		order, err := os.ReadFile(path)
		points, _ := os.ReadFile(filepath.Join(c.dir, "points"))
		switch point := string(order); {
		case err != nil, point == "record" && !subnets(c.mode), point == "record" && strings.Contains(string(points), "clerk:clerk_serves#1"):
			return
		case point != "record" && !strings.HasPrefix(point, "clerk:") && !strings.HasPrefix(point, "steward:"), strings.Contains(point, "end_of_a_clerk"):
			return // it comes at the end, or elsewhere
		}
		select {
		case <-p.done:
			return
		default:
		}
	}
}

// subnets reports whether networks of a mode have a clerk.
func subnets(mode string) bool { return mode == "host-only" || mode == "nat" }

// recovered waits until the host is as before, 5 s at most, and says how long
// that took.
func (c *crash) recovered() time.Duration {
	begin := time.Now()
	for time.Since(begin) < 5*time.Second {
		if lab.Diff(c.before, lab.Snapshot(c.T, c.run)) == "" {
			break
		}
	}
	return time.Since(begin)
}

// cell tries one point and action.
func (c *crash) cell(point, action string) {
	c.Helper()
	c.tried++
	c.order(point + " " + action)
	took := c.live()
	if _, err := os.Stat(filepath.Join(c.dir, "failpoint")); err == nil {
		// An earlier kill may keep a process from getting there.
		c.Errorf("%s, %s: the point was not met", point, action)
		os.Remove(filepath.Join(c.dir, "failpoint"))
	}
	limit := 2 * time.Second
	switch {
	case action == killAll, action == killSupervisor && aloneAt(point):
		c.qnet("gc")
		limit = 10 * time.Second
	case action == fail, action == panics:
		limit = time.Second
	default:
		c.worst = max(c.worst, took)
	}
	if !stress {
		limit *= 5 // `make test` runs beside other tests, under the race detector
	}
	diff := lab.Diff(c.before, lab.Snapshot(c.T, c.run))
	if diff != "" || took > limit {
		c.failed++
		c.Errorf("%s, %s: after %s left:\n%s", point, action, took.Truncate(time.Millisecond), brief(diff))
		c.qnet("gc")
		if left := lab.Diff(c.before, lab.Snapshot(c.T, c.run)); left != "" {
			c.Fatalf("and gc leaves:\n%s", brief(left))
		}
	}
}

// aloneAt reports whether only the supervisor lives at the point: no other process can
// clean up after it.
func aloneAt(point string) bool {
	return slices.Contains([]string{"supervisor:supervisor_did_lock#1", "supervisor:supervisor_did_listen#1", "supervisor:supervisor_did_check#1", "supervisor:supervisor_did_launch#1"}, point)
}

// brief leaves out the sysctls, which come and go with their links.
func brief(diff string) string {
	lines := slices.DeleteFunc(slices.Collect(strings.Lines(diff)), func(line string) bool {
		return strings.Contains(line, "sysctl: /proc/sys/net/ipv")
	})
	return fmt.Sprint(strings.Join(lines, ""))
}
