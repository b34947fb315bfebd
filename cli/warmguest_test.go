package cli

import (
	"crypto/sha256"
	_ "embed"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lab/guest"
	"github.com/qnet-vm/qnet/internal/packet"
)

//go:embed warmguest.sh
var warmGuest []byte

// warmSmall writes a profile of the small guest that VMs can begin from. Its first boot ends
// well if first is "good".
func (l *testHost) warmSmall(first string) string {
	l.Helper()
	kernel, initrd := guestIn(l, l.dir)
	rest, err := guest.Archive("warm.sh", warmGuest)
	if err != nil {
		l.Fatal(err)
	}
	whole := filepath.Join(l.dir, "warm.gz")
	if err := os.WriteFile(whole, append([]byte(read(l.T, initrd)), rest...), 0o644); err != nil {
		l.Fatal(err)
	}
	return l.profile("small", fmt.Sprintf(`memory = "160MiB"
accel = "tcg"
image = %q
[boot]
kernel = %q
initrd = %q
cmdline = "console=ttyS0 quiet first=%s %s"
[guest]
user = "root"
[[nic]]
mode = "nat"
network = "dev"
`, l.base("small.qcow2"), kernel, whole, first, guest.Script(": > /QNET-TEST-GUEST; sh /warm.sh")))
}

// me returns what a guest of warmSmall shows of itself, line by line: host name, MAC and IP
// address, machine-id, host key, and what its first boot wrote to its disk.
func (l *testHost) me(name string) []string {
	l.Helper()
	url := "http://" + strings.TrimSpace(l.must("wait", "--for", "port:80", "--timeout", "120s", name)) + "/me"
	var text string
	lab.Eventually(l, bootTime, name+" shows who it is", func() bool {
		b, err := fetch(url)
		text = string(b)
		return err == nil && text != ""
	})
	return strings.Split(strings.TrimSpace(text), "\n")
}

// startsWarm starts a VM from a booted guest, and returns what the VM shows of itself.
func (l *testHost) startsWarm(name, profile string) []string {
	l.Helper()
	p := l.start("run", "-d", "--warm", "--name", name, profile)
	if code := p.end(debianTime); code != exitOK || strings.Contains(p.errout.String(), "warning") {
		l.Fatalf("run of %s: exit code %d\n%s", name, code, &p.errout)
	}
	return l.me(name)
}

// inCache lists what there is in the cache of images besides locks, and records of what names
// stand for.
func (l *testHost) inCache() (files []string) {
	l.Helper()
	root := filepath.Join(l.dir, "state/images")
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		name, _ := filepath.Rel(root, path)
		if err == nil && !e.IsDir() && !strings.HasPrefix(name, "locks/") && !strings.HasPrefix(name, "refs/") {
			files = append(files, name)
		}
		return err
	})
	if err != nil {
		l.Fatal(err)
	}
	return files
}

// removesAll ends VMs, removes what they keep, and finds nothing in the cache after a prune.
func (l *testHost) removesAll(vms ...string) {
	l.Helper()
	for _, name := range vms {
		l.must("rm", "-y", "--force", name)
	}
	l.must("image", "prune")
	if left := l.inCache(); len(left) > 0 {
		l.Errorf("left in the cache: %q", left)
	}
}

func stat(t *testing.T, path string) fs.FileInfo {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// Many VMs begin from one booted guest at once. Each is a VM of its own. Nothing is written to
// the disk that all begin from, and nobody reads it for its digest.
func TestManyClones(t *testing.T) {
	inLab(t, func(l *testHost) {
		profile := l.profile("small", read(t, l.warmSmall("good"))+"[network.dev]\nipv6 = \"auto\"\n")
		l.startsWarm("first", profile)
		base := filepath.Join(l.dir, "state/images/warm", l.booted()[0].Name, "disk.qcow2")
		before, info := sha256.Sum256([]byte(read(t, base))), stat(t, base)
		const many = 20
		var runs []*process
		names := []string{"first"}
		for i := range many {
			names = append(names, fmt.Sprintf("c%d", i))
			runs = append(runs, l.start("run", "-d", "--warm", "--name", names[i+1], profile))
		}
		for i, p := range runs {
			if code := p.end(debianTime); code != exitOK || strings.Contains(p.errout.String(), "warning") || strings.Contains(p.errout.String(), "to be read") {
				t.Fatalf("%s: exit code %d\n%s", names[i+1], code, &p.errout)
			}
		}
		l.areDistinct(names)
		for _, name := range names[:3] {
			l.hasAddressOfMAC(name)
		}
		if after := stat(t, base); sha256.Sum256([]byte(read(t, base))) != before || !after.ModTime().Equal(info.ModTime()) || after.Mode().Perm() != 0o444 {
			t.Error("what all begin from was written to")
		}
		if len(l.booted()) != 1 {
			t.Errorf("booted: %+v", l.booted())
		}
		if got := strings.Count(l.must("ls"), "small.qcow2 (warm) "); got != len(names) || !strings.Contains(l.must("ls", "--json"), `"begun": "`+l.booted()[0].Name+`"`) {
			t.Errorf("ls marks %d of %d:\n%s", got, len(names), l.must("ls"))
		}
		l.removesAll(slices.Clone(names)...)
	})
}

// areDistinct sees that each clone has a name, addresses, a machine-id and a host key of its own.
func (l *testHost) areDistinct(names []string) {
	l.Helper()
	seen := map[string]string{}
	for _, name := range names {
		me := l.me(name)
		if len(me) != 6 || me[0] != name || me[5] != "first boot" {
			l.Fatalf("%s shows %q", name, me)
		}
		for _, own := range me[:5] {
			if other := seen[own]; other != "" {
				l.Errorf("%s and %s have both %q", other, name, own)
			}
			seen[own] = name
		}
		if address, _, _ := strings.Cut(me[2], "/"); strings.TrimSpace(l.must("ip", name)) != address {
			l.Errorf("%s has the address %s, and qnet ip says another", name, address)
		}
	}
}

// hasAddressOfMAC waits until a guest has shown the IPv6 address that its own MAC makes.
func (l *testHost) hasAddressOfMAC(name string) {
	l.Helper()
	nic := l.state(name).NICs[0]
	want := packet.EUI64(netip.PrefixFrom(nic.Address6, 64), net.HardwareAddr(nic.MAC)).String()
	got := ""
	lab.Eventually(l, time.Minute, name+" has an IPv6 address", func() bool {
		code, out, _ := l.qnet("ip", "-6", name)
		got = strings.TrimSpace(out)
		return code == exitOK
	})
	if got != want {
		l.Errorf("%s has %s, want %s", name, got, want)
	}
}

// A first boot that fails is kept for no VM. The run says why, and where the guest's console
// was logged; its VM boots itself.
func TestFirstBootForOthersFails(t *testing.T) {
	inLab(t, func(l *testHost) {
		p := l.start("run", "-d", "--warm", "--name", "one", l.warmSmall("bad"))
		if code := p.end(debianTime); code != exitOK {
			t.Fatalf("exit code %d\n%s", code, &p.errout)
		}
		l.saysWhyItBoots("one", p.errout.String(), "first boot: status: error", "Runparts: 1 failures")
		if got := l.me("one"); got[0] == "" || strings.HasPrefix(got[0], "warm-") {
			t.Errorf("it shows %q", got)
		}
		if got := l.must("ls"); strings.Contains(got, "(warm)") {
			t.Errorf("ls marks it:\n%s", got)
		}
		l.removesAll("one")
	})
}

// saysWhyItBoots checks what a run with --warm says whose guest could not be booted for others:
// why, and which log has the rest. Nothing of that guest is kept but its log.
func (l *testHost) saysWhyItBoots(name, said string, words ...string) {
	l.Helper()
	for _, want := range append(words, fmt.Sprintf("VM %q boots, --warm or not", name)) {
		if !strings.Contains(said, want) {
			l.Errorf("no %q in:\n%s", want, said)
		}
	}
	_, rest, _ := strings.Cut(said, "its console is in ")
	path, _, _ := strings.Cut(rest, "\n")
	if console, err := os.ReadFile(path); err != nil || !strings.Contains(string(console), "first boot") {
		l.Errorf("log %q: %v, %d bytes; said:\n%s", path, err, len(console), said)
	}
	if list := l.booted(); len(list) > 0 {
		l.Errorf("kept: %+v", list)
	}
	if left, _ := filepath.Glob(filepath.Join(l.dir, "state/images/warm*/*")); len(left) > 0 {
		l.Errorf("left: %q", left)
	}
}

// killedAt starts a VM, whose guest is booted for others first, and kills a process of that boot:
// at a failpoint, or after a part of the time that a whole boot takes.
func (l *testHost) killedAt(c killedBoot, profile string, whole time.Duration) {
	l.Helper()
	if c.point != "" {
		lab.Sh(l, fmt.Sprintf("echo -n '%s %s' > %s/failpoint", c.point, c.victim, l.dir))
	}
	p := l.start("run", "-d", "--warm", "--name", "one", profile)
	if c.point == "" {
		select { // the one time here that is waited for is the one to kill at
		case <-p.done:
			l.Logf("it has ended after less than %s", whole)
		case <-time.After(time.Duration(c.part * float64(whole))):
		}
		for _, pid := range l.ofBoot(c.victim, p.Process.Pid) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	p.end(debianTime)
}

// killedBoot is a process to kill, and when.
type killedBoot struct {
	victim string  // killQEMU, killSupervisor of the guest for others, or client
	point  string  // failpoint
	part   float64 // of the time of a whole boot
}

const killClient = "kill-client"

// ofBoot finds the processes that boot a guest for others.
func (l *testHost) ofBoot(victim string, client int) (pids []int) {
	if victim == killClient {
		return []int{client}
	}
	kind := killSupervisor
	if victim == killQEMU {
		kind = killQEMU
	}
	for _, pid := range victims(kind, l.run) {
		words, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if text := string(words); strings.Contains(text, "--for-others") || strings.Contains(text, "guest=warm-") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// A guest that is booted for others, and of which a process is killed at any time, is there
// whole, or not at all: the next run begins from a whole one, and a prune leaves nothing.
func TestKilledWhileBootedForOthers(t *testing.T) {
	inLab(t, func(l *testHost) {
		profile := l.warmSmall("good")
		began := time.Now()
		l.startsWarm("zero", profile)
		whole := time.Since(began)
		l.removesAll("zero")
		list := []killedBoot{
			{victim: killSupervisor, point: "supervisor:warm_is_about_to_keep#1"},
			{victim: killSupervisor, point: "supervisor:warm_did_keep#1"},
			{victim: killSupervisor, point: "supervisor:saved_did_write#1"},
			{victim: killSupervisor, point: "supervisor:supervisor_did_name#1"},
		}
		times := 1
		if lab.Stress() {
			times = 8
		}
		for range times {
			for _, victim := range []string{killQEMU, killSupervisor, killClient} {
				list = append(list, killedBoot{victim: victim, part: rand.Float64()})
			}
		}
		for _, c := range list {
			l.Logf("%+v", c)
			l.killedAt(c, profile, whole)
			next := "two"
			if strings.Contains(c.point, "did_name") {
				next = "one" // begins anew: its guest did not know yet who it is
			}
			if got := l.startsWarm(next, profile); len(got) != 6 || got[0] != next || got[5] != "first boot" {
				t.Errorf("%+v: the next shows %q", c, got)
			}
			if list := l.booted(); len(list) != 1 {
				t.Errorf("%+v: booted: %+v", c, list)
			}
			l.qnet("gc")
			l.qnet("rm", "-y", "--force", "one", "two") // of which one may not be there
			l.removesAll()
		}
	})
}

// Guests that boot by UEFI begin from one, too: each has the variables of that first boot in a
// file of its own, and boots by them later.
func TestWarmUEFI(t *testing.T) {
	lab.Require(t, lab.OVMF)
	inLab(t, func(l *testHost) {
		const ofBoot = "of the first boot"
		small := l.warmSmall("good")
		profile := l.profile("small", strings.Replace(read(t, small), "[boot]\n", "[boot]\nfirmware = \"uefi\"\n", 1))
		for _, name := range []string{"one", "two"} {
			if got := l.startsWarm(name, profile); len(got) != 7 || got[0] != name || got[6] != ofBoot {
				t.Errorf("%s shows %q", name, got)
			}
		}
		if os.SameFile(stat(t, l.vmDir("one")+"/vars.fd"), stat(t, l.vmDir("two")+"/vars.fd")) {
			t.Error("both have one file of variables")
		}
		if got := l.inCache(); slices.ContainsFunc(got, func(name string) bool { return strings.HasSuffix(name, ".fd") }) {
			t.Errorf("in the cache: %q", got)
		}
		l.must("stop", "--force", "two")
		l.must("run", "-d", "--name", "two", profile)
		if got := l.me("two"); len(got) != 7 || got[6] != ofBoot {
			t.Errorf("booted again, it shows %q", got)
		}
		l.removesAll("one", "two")
	})
}
