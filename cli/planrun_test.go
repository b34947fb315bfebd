package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/qemu/sandbox"
)

// planned is what `qnet plan --json` prints.
type planned struct {
	Networks []struct {
		Do []string `json:"do"`
	} `json:"networks"`
	Forwards []string       `json:"forwards"`
	QEMU     string         `json:"qemu"`
	Confined sandbox.Report `json:"confined"`
}

func (l *testHost) plan(path string) (p planned) {
	l.Helper()
	if err := json.Unmarshal([]byte(l.must("plan", "--json", path)), &p); err != nil {
		l.Fatal(err)
	}
	return p
}

// difference lists the lines that only one of the lists has, or both if only their order
// differs; "" if they are equal.
func difference(plan, run []string) string {
	if slices.Equal(plan, run) {
		return ""
	}
	var b strings.Builder
	for _, line := range plan {
		if !slices.Contains(run, line) {
			b.WriteString("- " + line + "\n")
		}
	}
	for _, line := range run {
		if !slices.Contains(plan, line) {
			b.WriteString("+ " + line + "\n")
		}
	}
	if b.Len() == 0 {
		return "in another order:\n" + strings.Join(plan, "\n") + "\n\n" + strings.Join(run, "\n")
	}
	return b.String()
}

// `qnet plan` shows exactly the steps that `qnet run` does, in each mode, beside other
// VMs that changed the host already.
func TestPlanIsTheRun(t *testing.T) {
	const dev = "network = \"dev\"\n"
	uplink := func(name, more string) string {
		return "[[nic]]\nmode = \"bridge\"\n" + dev + "[network.dev]\nuplink = \"" + name + "\"\n" + more
	}
	for name, nics := range map[string]string{
		"private":   "[[nic]]\nmode = \"private\"\n" + dev,
		"host-only": "[[nic]]\nmode = \"host-only\"\n" + dev,
		"nat":       "[[nic]]\nmode = \"nat\"\n" + dev,
		"uplink":    "[[nic]]\nmode = \"nat\"\n" + dev + "[network.dev]\nuplink = \"eth0\"\n",
		"ports":     "[[nic]]\nmode = \"nat\"\nports = [\"*:8080:80\", \"2222:22\", \"192.0.2.10:5300-5301:53-54/udp\"]\n" + dev,
		"mtu":       "[[nic]]\nmode = \"nat\"\n" + dev + "[network.dev]\nmtu = 1400\n",
		"bridge":    uplink("lan0", ""),
		"macvtap":   uplink("lan0", "macvtap = true\n"),
		"move":      uplink("eth0", ""),
		"two":       "[[nic]]\nmode = \"nat\"\n" + dev + "[[nic]]\nmode = \"private\"\nnetwork = \"p\"\n[[nic]]\nmode = \"nat\"\n" + dev,
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *testHost) {
				lab.FreeNIC(l, l.dir)
				l.prepared()
				for other, mode := range map[string]string{"a": "nat", "c": "host-only", "d": "private"} {
					l.must("run", "-d", l.profile(other, idle+"[[nic]]\nmode = \""+mode+"\"\n"))
				}
				path := l.profile("b", idle+nics)
				planned := l.plan(path)
				var steps []string
				for _, n := range planned.Networks {
					steps = append(steps, n.Do...)
				}
				steps = append(append(steps, planned.Confined.Comment()), planned.Forwards...)
				p := l.start("run", "-d", "-v", path)
				if code := p.end(30 * time.Second); code != 0 {
					t.Fatalf("exit code %d\n%s", code, &p.errout)
				}
				done := slices.DeleteFunc(strings.Split(strings.TrimSpace(p.errout.String()), "\n"), func(line string) bool {
					return strings.HasPrefix(line, "warning: ")
				})
				if diff := difference(strings.Split(strings.Join(steps, "\n"), "\n"), done); diff != "" {
					t.Errorf("plan (-) and run (+):\n%s", diff)
				}
				for _, vm := range []string{"b", "a", "c", "d"} {
					l.must("stop", "--force", vm)
				}
			})
		})
	}
}

// recorder is a QEMU that writes its arguments, a line each, to a file and ends.
func (l *testHost) recorder() (program, record string) {
	l.Helper()
	program, record = filepath.Join(l.dir, "recorder"), filepath.Join(l.dir, "arguments")
	script := "#!/bin/sh\n[ \"$1\" = -version ] && echo QEMU emulator version 8.2.0 && exit\n" +
		"{ printf '%s\\n' \"$@\"; echo; } >> " + record + "\nexit 1\n"
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		l.Fatal(err)
	}
	lab.Sh(l, "touch "+record+"; chmod 666 "+record) // QEMU is another user
	return program, record
}

// devices gives the host a /dev of the test's own, with these nodes of the machine's
// and, if there shall be vhost, a file in place of its node.
func (l *testHost) devices(vhost bool, nodes ...string) {
	l.Helper()
	dir := filepath.Join(l.dir, "dev")
	lab.Sh(l, "mkdir "+dir+"; mount -t tmpfs -o mode=755 none "+dir+"; mkdir "+dir+"/net")
	for _, node := range append(nodes, "null", "zero", "full", "random", "urandom", "tty", "net/tun") {
		lab.Sh(l, "touch "+dir+"/"+node+"; mount --bind /dev/"+node+" "+dir+"/"+node)
	}
	if vhost {
		lab.Sh(l, "touch "+dir+"/vhost-net; chmod 666 "+dir+"/vhost-net")
	}
	lab.Sh(l, "mount --move "+dir+" /dev")
}

// shown splits the QEMU command line that a plan shows.
func (l *testHost) shown(p planned) []string {
	l.Helper()
	_, arguments, _ := strings.Cut(p.QEMU, " ")
	return strings.Split(strings.TrimSuffix(lab.Sh(l, "printf '%s\\n' "+arguments), "\n"), "\n")
}

// ungated leaves out the option that holds QEMU back while the network is made.
func ungated(arguments []string) []string {
	i := slices.IndexFunc(arguments, func(a string) bool { return strings.Contains(a, `"id":"gate"`) })
	if i < 1 {
		return arguments
	}
	return slices.Delete(slices.Clone(arguments), i-1, i+1)
}

// `qnet plan` shows exactly the arguments that `qnet run` starts QEMU with: queues,
// vhost and MTU included.
func TestPlannedQEMUIsTheRun(t *testing.T) {
	for name, c := range map[string]struct {
		profile    string
		kvm, vhost bool
		want       string
	}{
		"tcg":               {"accel = \"tcg\"\ncpus = 4\n[[nic]]\nmode = \"nat\"\n", true, true, `"fd":"5"`},
		"kvm":               {"accel = \"kvm\"\ncpus = 3\n[[nic]]\nmode = \"nat\"\n[[nic]]\nmode = \"private\"\n", true, true, `"vhostfds":"8:9:10"`},
		"kvm-without-vhost": {"accel = \"kvm\"\ncpus = 3\n[[nic]]\nmode = \"nat\"\n", true, false, `"fd":"5"`},
		"kvm-one-cpu":       {"accel = \"kvm\"\n[[nic]]\nmode = \"nat\"\n", true, true, `"vhostfd":"6"`},
		"kvm-many-cpus":     {"accel = \"kvm\"\ncpus = 20\n[[nic]]\nmode = \"nat\"\n", true, true, `"fds":"5:6:7:8:9:10:11:12"`},
		"auto":              {"cpus = 2\n[[nic]]\nmode = \"nat\"\n", true, true, `"vhostfds":"7:8"`},
		"auto-without-kvm":  {"cpu = \"host\"\ncpus = 2\n[[nic]]\nmode = \"nat\"\n", false, true, `"fds":"5:6"`},
		"model":             {"accel = \"kvm\"\ncpus = 2\n[[nic]]\nmode = \"nat\"\nmodel = \"e1000e\"\n", true, true, "e1000e"},
		"mtu":               {"accel = \"tcg\"\n[[nic]]\nmode = \"nat\"\n[network.nat]\nmtu = 9000\n", true, true, `"host_mtu":9000`},
		"uplinks-mtu":       {"accel = \"tcg\"\n[[nic]]\nmode = \"nat\"\n[[nic]]\nmode = \"private\"\n", true, true, `"host_mtu":9000`},
		"user-none":         {"accel = \"tcg\"\n[[nic]]\nmode = \"none\"\n[[nic]]\nmode = \"user\"\n[[nic]]\nmode = \"private\"\n", true, true, `"type":"user"`},
		"macvtap":           {"accel = \"kvm\"\ncpus = 2\n[[nic]]\nmode = \"bridge\"\n[[nic]]\nmode = \"private\"\n[network.bridge]\nuplink = \"eth0\"\nmacvtap = true\n", true, true, `"fd":"5"`},
		"disks-and-kernel":  {"accel = \"tcg\"\n[boot]\nkernel = \"k\"\ninitrd = \"k\"\ncmdline = \"a 'b'  c\"\n[[disk]]\nfile = \"d0\"\nformat = \"raw\"\nsnapshot = true\n[[disk]]\nfile = \"d1\"\nformat = \"raw\"\nreadonly = true\n[[nic]]\nmode = \"private\"\n", true, true, "/proc/self/fd/"},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *testHost) {
				if name != "macvtap" { // the kernel makes its device in the machine's own /dev
					l.devices(c.vhost, map[bool][]string{true: {"kvm"}}[c.kvm]...)
				}
				lab.Sh(t, "truncate -s 1M "+l.dir+"/k "+l.dir+"/d0 "+l.dir+"/d1")
				if name == "uplinks-mtu" {
					lab.Sh(t, "ip link set eth0 mtu 9000")
				}
				l.prepared()
				program, record := l.recorder()
				l.env = append(l.env, "QNET_QEMU="+program)
				path := l.profile("q", "memory = \"64MiB\"\n"+c.profile)
				l.must("mac", path) // makes the salt, so that plan and run choose the same
				shown := l.shown(l.plan(path))
				if code, _, said := l.qnet("run", path); code != exitQEMU {
					t.Fatalf("exit code %d: %s", code, said)
				}
				b, err := os.ReadFile(record)
				if err != nil {
					t.Fatal(err)
				}
				starts := strings.Split(strings.TrimSuffix(string(b), "\n\n"), "\n\n")
				started := starts[0] // what follows is the try without KVM
				if name == "uplinks-mtu" {
					started = starts[len(starts)-1] // with the MTU that the network turned out to have
				}
				if diff := difference(shown, ungated(strings.Split(started, "\n"))); diff != "" {
					t.Errorf("plan (-) and run (+):\n%s", diff)
				}
				if !strings.Contains(strings.Join(shown, "\n"), c.want) {
					t.Errorf("no %s in %q", c.want, shown)
				}
			})
		})
	}
}

// The same for a real QEMU.
func TestPlannedQEMUIsTheProcess(t *testing.T) {
	inLab(t, func(l *testHost) {
		path := l.profile("q", idle+"cpus = 2\n[[nic]]\nmode = \"nat\"\n[[nic]]\nmode = \"user\"\n")
		l.must("mac", path)
		shown := l.shown(l.plan(path))
		l.must("run", "-d", path)
		b, err := os.ReadFile("/proc/" + itoa(l.state("q").QEMU) + "/cmdline")
		if err != nil {
			t.Fatal(err)
		}
		_, arguments, _ := strings.Cut(strings.TrimSuffix(string(b), "\x00"), "\x00")
		if diff := difference(shown, ungated(strings.Split(arguments, "\x00"))); diff != "" {
			t.Errorf("plan (-) and run (+):\n%s", diff)
		}
		l.must("stop", "--force", "q")
	})
}
