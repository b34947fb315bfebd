package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/warm"
)

// warmProfile is a profile of a Debian whose first boot says what it did.
func (l *testHost) warmProfile() string {
	l.Helper()
	return l.debian("deb", "", `
[guest]
user = "me"
run = ["date >> /ran"]
[[nic]]
[[nic]]
mode = "private"
`)
}

// booted returns the guests that were booted for others.
func (l *testHost) booted() []warm.State {
	l.Helper()
	list, err := warm.Cache{Images: filepath.Join(l.dir, "state/images")}.List()
	if err != nil {
		l.Fatal(err)
	}
	return list
}

// clone starts a VM that begins from a booted guest, and returns how long its shell took.
func (l *testHost) clone(name, profile string) time.Duration {
	l.Helper()
	began := time.Now()
	p := l.start("run", "-d", "--warm", "--name", name, profile)
	if code := p.end(debianTime); code != 0 || strings.Contains(p.errout.String(), "warning") {
		l.Fatalf("exit code %d\n%s", code, &p.errout)
	}
	ran := time.Since(began)
	if got := l.in(name, "hostname"); got != name {
		l.Errorf("%s: its host name is %q", name, got)
	}
	l.Log(name, "ran after", ran, "shell after", time.Since(began))
	return time.Since(began)
}

// own is what each clone has of its own.
var own = map[string]string{
	"MAC":        "cat /sys/class/net/eth0/address",
	"second MAC": "cat /sys/class/net/eth1/address",
	"address":    "ip -4 -br address show eth0 | awk '{ print $3 }'",
	"machine-id": "cat /etc/machine-id",
	"host key":   "cat /etc/ssh/ssh_host_ed25519_key.pub",
	"host keys":  "cat /etc/ssh/*.pub",
	"random":     "head -c 16 /dev/urandom | od -An -tx1",
	"instance":   "cloud-init query instance_id",
	"client-id":  "sudo cat /run/systemd/netif/leases/* | grep CLIENTID",
	"journal":    "sudo ls /var/log/journal /run/log/journal 2>/dev/null | grep -xE '[0-9a-f]{32}'",
}

// Two clones of one booted guest are two guests, beside each other on one network, and go on as
// any VM does.
func TestWarmStart(t *testing.T) {
	debianHost(t, func(l *testHost) {
		profile := l.warmProfile()
		first := l.clone("one", profile)
		second := l.clone("two", profile)
		if got := l.must("image", "ls"); !strings.Contains(got, "one,two") || !strings.Contains(got, "booted from") {
			t.Errorf("image ls: %s", got)
		}
		t.Logf("a shell by SSH after %s with the boot, %s without", first, second)
		seen := map[string]map[string]string{}
		for _, vm := range []string{"one", "two"} {
			seen[vm] = map[string]string{}
			for what, command := range own {
				if seen[vm][what] = l.in(vm, "sh", "-c", command); seen[vm][what] == "" {
					t.Errorf("%s has no %s", vm, what)
				}
			}
			if now := l.in(vm, "date", "+%s"); !near(now) {
				t.Errorf("%s: its clock says %s", vm, now)
			}
			if got := l.in(vm, "sh", "-c", "grep -rl warm- /etc /run/systemd/network 2>/dev/null; wc -l < /ran"); got != "1" {
				t.Errorf("%s: %q", vm, got)
			}
		}
		for what, value := range seen["one"] {
			if value == seen["two"][what] {
				t.Errorf("both have the %s %q", what, value)
			}
		}
		addresses := map[string]string{}
		for _, vm := range []string{"one", "two"} {
			addresses[vm] = strings.TrimSpace(l.must("ip", vm))
			if !strings.HasPrefix(seen[vm]["address"], addresses[vm]+"/") {
				t.Errorf("%s has %s, and qnet ip says %s", vm, seen[vm]["address"], addresses[vm])
			}
		}
		l.in("one", "ping", "-c", "1", "-W", "5", addresses["two"])
		l.in("two", "ping", "-c", "1", "-W", "5", addresses["one"])
		l.goesOnAsAnyVM(profile, seen["one"])
		l.removesBooted()
	})
}

// near reports whether a time in seconds is now.
func near(seconds string) bool {
	var n int64
	err := json.Unmarshal([]byte(seconds), &n)
	return err == nil && time.Since(time.Unix(n, 0)).Abs() < 20*time.Second
}

// goesOnAsAnyVM suspends, resumes and boots a clone, which stays who it is.
func (l *testHost) goesOnAsAnyVM(profile string, was map[string]string) {
	l.Helper()
	l.must("suspend", "one")
	l.must("resume", "one")
	if got := l.in("one", "cat", "/etc/machine-id"); got != was["machine-id"] {
		l.Errorf("resumed, it has the machine-id %q", got)
	}
	if !lab.Stress() {
		l.Log("one more boot; QNET_STRESS=1 runs it")
		return
	}
	l.stops("one")
	if code, _, said := l.qnet("run", "-d", "--warm", "--name", "one", profile); code != 0 || !strings.Contains(said, "it has a disk of its own") {
		l.Errorf("exit code %d, %s", code, said)
	}
	l.boots("one")
	for _, what := range []string{"MAC", "second MAC", "address", "machine-id", "host keys", "instance"} {
		if got := l.in("one", "sh", "-c", own[what]); got != was[what] {
			l.Errorf("booted, its %s is %q, and was %q", what, got, was[what])
		}
	}
	if got := l.in("one", "sh", "-c", "hostname; wc -l < /ran"); got != "one\n1" {
		l.Errorf("booted, it says %q", got)
	}
}

// removesBooted sees that a booted guest stays while VMs rest on it, and goes with its image.
func (l *testHost) removesBooted() {
	l.Helper()
	l.must("image", "prune")
	if got := l.booted(); len(got) != 1 {
		l.Errorf("after prune: %+v", got)
	}
	for _, vm := range []string{"one", "two"} {
		l.must("stop", "--force", vm)
		l.must("rm", "-y", vm)
	}
	l.must("image", "prune")
	if entries, _ := os.ReadDir(filepath.Join(l.dir, "state/images/warm")); len(entries) > 0 {
		l.Errorf("after the last VM: %v", entries)
	}
}

// A real first boot that fails, because a command of [guest] does, is kept for no VM.
func TestWarmFirstBootFails(t *testing.T) {
	if !lab.Stress() {
		t.Skip("one more boot; QNET_STRESS=1 runs it")
	}
	debianHost(t, func(l *testHost) {
		profile := l.debian("deb", "", "[guest]\nuser = \"me\"\nrun = [\"echo the first boot goes wrong > /dev/ttyS0; exit 3\"]\n[[nic]]\n")
		p := l.start("run", "-d", "--warm", "--name", "one", profile)
		if code := p.end(debianTime); code != exitOK {
			t.Fatalf("exit code %d\n%s", code, &p.errout)
		}
		t.Log(p.errout.String())
		l.saysWhyItBoots("one", p.errout.String(), "first boot: status: error", "scripts-user", "runcmd")
		l.must("stop", "--force", "one")
	})
}

// What cannot begin from a booted guest is refused before anything is booted, by plan, too.
func TestWarmRefuses(t *testing.T) {
	inLab(t, func(l *testHost) {
		lab.Sh(t, "echo '{\"ignition\":{\"version\":\"3.3.0\"}}' > "+l.dir+"/x.ign; mkdir "+l.dir+"/shared; qemu-img create -q -f raw "+l.dir+"/data.raw 1M")
		text := "image = \"" + l.base("base.qcow2") + "\"\n"
		for rest, want := range map[string]string{
			"tpm = true\n":                                      "a TPM, whose keys",
			"[guest]\nuser_data = \"x.ign\"\n":                  "Ignition",
			"[[share]]\npath = \"shared\"\nmount = \"/src\"\n":  "shares folders",
			"[[disk]]\nfile = \"data.raw\"\nformat = \"raw\"\n": "data.raw",
		} {
			path := l.profile("g", text+rest)
			for _, args := range [][]string{{"run", "-d", "--warm", path}, {"plan", "--warm", path}} {
				l.refused(exitUsage, []string{"with --warm", want}, args...)
			}
		}
		if _, err := os.Stat(filepath.Join(l.dir, "state/images/warm")); err == nil {
			t.Error("a refused run made something")
		}
	})
}
