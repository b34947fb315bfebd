package cli

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/firstboot/gather"
	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lab/guest"
	"github.com/qnet-vm/qnet/internal/sshkey"
)

// debianTime is how long a Debian may take under TCG on a machine that runs other tests.
const debianTime = 10 * time.Minute

// debianHost is a host on which Debian guests can run, and a user with a key.
func debianHost(t *testing.T, f func(l *testHost)) {
	t.Helper()
	lab.Require(t, lab.File(".cache/debian/debian.qcow2", "debian"), lab.Program("ssh"), lab.Program("scp"), lab.Program("dpkg-deb"))
	inLab(t, func(l *testHost) {
		home := filepath.Join(l.dir, "home")
		if _, err := sshkey.Ensure(home+"/.ssh/id_ed25519", sshkey.Ed25519, "mine"); err != nil {
			t.Fatal(err)
		}
		l.env = append(l.env, "HOME="+home, "SSH_AUTH_SOCK=")
		f(l)
	})
}

// debian writes a profile of a Debian that boots by its own kernel.
func (l *testHost) debian(name, cmdline, rest string) string {
	l.Helper()
	text, err := guest.Debian{Files: lab.Module(".cache/debian"), Cmdline: cmdline, Rest: rest}.Profile(l.dir)
	if err != nil {
		l.Fatal(err)
	}
	return l.profile(name, text)
}

// in runs a command in a guest, and returns what it says.
func (l *testHost) in(vm string, command ...string) string {
	l.Helper()
	return strings.TrimSpace(l.must(append([]string{"exec", vm, "--"}, command...)...))
}

// boots waits for the end of a guest's first boot.
func (l *testHost) boots(vm string) {
	l.Helper()
	p := l.start("wait", "--for", "boot", "--timeout", debianTime.String(), vm)
	if code := p.end(debianTime + time.Minute); code != 0 || strings.Contains(p.errout.String(), "warning") {
		console, _ := os.ReadFile(filepath.Join(l.dir, "state/logs", vm, "console.log"))
		l.Fatalf("exit code %d\n%s\n%s", code, &p.errout, console[max(0, len(console)-4000):])
	}
}

// repository returns user data that gives the guest a repository with one package.
func repository(l *testHost) string {
	l.Helper()
	dir := filepath.Join(l.dir, "repository")
	lab.Sh(l, `mkdir -p `+dir+`/greeter/DEBIAN `+dir+`/greeter/usr/bin; cd `+dir+`
printf 'Package: greeter\nVersion: 1.0\nArchitecture: all\nMaintainer: T <t@example.org>\nDescription: greets\n' > greeter/DEBIAN/control
printf '#!/bin/sh\necho hello\n' > greeter/usr/bin/greeter; chmod 755 greeter/usr/bin/greeter
dpkg-deb --root-owner-group -b greeter greeter.deb > /dev/null
{ cat greeter/DEBIAN/control; echo "Filename: ./greeter.deb"; echo "Size: $(stat -c %s greeter.deb)"; echo "SHA256: $(sha256sum greeter.deb | cut -d ' ' -f 1)"; } > Packages`)
	code := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			l.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(b)
	}
	return `#cloud-config
apt: {preserve_sources_list: true}
bootcmd:
  - rm -rf /etc/apt/sources.list.d
write_files:
  - {path: /srv/greeter.deb, encoding: b64, content: ` + code("greeter.deb") + `}
  - {path: /srv/Packages, encoding: b64, content: ` + code("Packages") + `}
  - {path: /etc/apt/sources.list, content: "deb [trusted=yes] file:/srv ./"}
runcmd:
  - echo the user data >> /ran
`
}

// A real Debian is set up at its first boot as the profile says, lets its user in without a
// question, and its second boot changes nothing.
func TestFirstBoot(t *testing.T) {
	debianHost(t, func(l *testHost) {
		if err := os.WriteFile(l.dir+"/data.yaml", []byte(repository(l)), 0o644); err != nil {
			t.Fatal(err)
		}
		profile := l.debian("web", "", `
[guest]
user = "me"
hostname = "webby"
timezone = "Europe/Berlin"
packages = ["greeter"]
run = ["greeter >> /ran", "cd /etc", "pwd >> /ran"]
user_data = "data.yaml"
[[nic]]
[[nic]]
mode = "private"
[[nic]]
mode = "none"
[[nic]]
mode = "host-only"
[network.nat]
ipv6 = "auto"
[devices]
guest_agent = true
`)
		l.must("run", "-d", profile)
		l.boots("web")
		const ran = "the user data\nhello\n/etc"
		for command, want := range map[string]string{
			"id -un; hostname; sudo -n id -un": "me\nwebby\nroot",
			"readlink /etc/localtime":          "/usr/share/zoneinfo/Europe/Berlin",
			"cat /ran":                         ran,
			"test $(df --output=size / | tail -n 1) -gt 5000000 && echo grown":                        "grown",
			"ip -4 route show default | wc -l":                                                        "1",
			"ip -br -4 address | grep -c eth":                                                         "2", // of nat and host-only
			"ip link show eth1 | grep -o 'state UP'":                                                  "state UP",
			"cut -d ' ' -f 3 ~/.ssh/authorized_keys | sort":                                           "mine\nqnet",
			"cat /etc/systemd/system/serial-getty@ttyS0.service.d/qnet.conf | grep -c 'autologin me'": "1",
		} {
			if got := l.in("web", "sh", "-c", command); got != want {
				t.Errorf("%s: got %q, want %q", command, got, want)
			}
		}
		l.hasIPv6("web")
		l.copies()
		l.keys()
		l.agent("web")
		id := l.in("web", "cat", "/run/cloud-init/.instance-id")
		l.stops("web")
		l.must("run", "-d", profile)
		l.boots("web")
		if got := l.in("web", "cat", "/ran"); got != ran {
			t.Errorf("the second boot ran the commands again: %q", got)
		}
		if got := l.in("web", "cat", "/run/cloud-init/.instance-id"); got != id || !strings.HasPrefix(id, "qnet-") {
			t.Errorf("instance-id %q, before %q", got, id)
		}
		l.sleeps("web")
		l.losesPower("web", profile)
	})
}

// hasIPv6 checks that a Debian has its NIC's IPv6 address and one that it made, knows the name server,
// and is called and reached by the former.
func (l *testHost) hasIPv6(vm string) {
	l.Helper()
	address := ""
	lab.Eventually(l, time.Minute, "an IPv6 address", func() bool {
		code, out, _ := l.qnet("ip", "-6", vm)
		address = strings.TrimSpace(out)
		return code == 0 && address == l.state(vm).NICs[0].Address6.String()
	})
	if got := l.in(vm, "sh", "-c", "ip -6 -br address show dev eth0 scope global; resolvectl dns eth0"); !strings.Contains(got, address+"/128") || !strings.Contains(got, "/64") || strings.Count(got, "::1") != 1 {
		l.Errorf("the guest has %s", got)
	}
	// Its other networks answer names, too.
	if got := l.in(vm, "resolvectl", "--legend=no", "-6", "-i", "eth0", "query", vm+".qnet"); !strings.HasPrefix(got, vm+".qnet: "+address+" ") {
		l.Errorf("%s.qnet is %q, want %s", vm, got, address)
	}
	lab.Sh(l, "ping -6 -c 1 -W 5 "+address)
	if got := l.must("hosts"); !strings.Contains(got, address+"\t"+vm+".qnet "+vm+"\n") {
		l.Errorf("hosts: %s", got)
	}
}

// agent has QEMU's guest agent run commands, and none for longer than it may take.
func (l *testHost) agent(vm string) {
	l.Helper()
	code, out, errout := l.qnet("exec", "--agent", vm, "--", "sh", "-c", `id -un; printf 'a\0b'; echo "$1" >&2; exit 7`, "sh", "it's $HOME")
	if code != 7 || out != "root\na\x00b" || errout != "it's $HOME\n" {
		l.Errorf("exit code %d, %q, %q", code, out, errout)
	}
	if out := l.must("exec", "--agent", vm, "head", "-c", "1000000", "/dev/zero"); len(out) != 1000000 {
		l.Errorf("%d bytes of a million", len(out))
	}
	for _, c := range []struct{ want, command string }{{"no-such", "no-such"}, {"still runs after 2s; --timeout", "sleep"}} {
		code, _, errout := l.qnet("exec", "--agent", "--timeout", "2s", vm, c.command, "60")
		if code != exitFailure || !strings.Contains(errout, c.want) {
			l.Errorf("%s: exit code %d, %s", c.command, code, errout)
		}
	}
	l.copiesByAgent(vm)
}

// copiesByAgent has QEMU's guest agent copy files to the guest and back.
func (l *testHost) copiesByAgent(vm string) {
	l.Helper()
	want := bytes.Repeat([]byte("a\x00\xffz\n"), 400_000)
	for _, name := range []string{"one", "it's $two"} {
		if err := os.WriteFile(l.dir+"/"+name, want, 0o640); err != nil {
			l.Fatal(err)
		}
	}
	began := time.Now()
	l.must("cp", "--agent", l.dir+"/one", l.dir+"/it's $two", vm+":/root")
	l.Logf("%d bytes to the guest in %s", 2*len(want), time.Since(began))
	began = time.Now()
	l.must("cp", "--agent", vm+":/root/it's $two", l.dir+"/back by agent")
	l.Logf("%d bytes back in %s", len(want), time.Since(began))
	got, err := os.ReadFile(l.dir + "/back by agent")
	info, statErr := os.Stat(l.dir + "/back by agent")
	if err != nil || statErr != nil || !bytes.Equal(got, want) || info.Mode() != 0o640 {
		l.Errorf("%d bytes came back, %v, %v", len(got), err, info)
	}
	l.must("cp", "--agent", vm+":/proc/version", l.dir)
	if got, err := os.ReadFile(l.dir + "/version"); err != nil || !strings.HasPrefix(string(got), "Linux version") {
		l.Errorf("got %q, %v", got, err)
	}
	for want, args := range map[string][]string{
		"there is no such file": {vm + ":/no/such", l.dir},
		"is no file":            {l.dir + "/one", vm + ":/dev/null"},
		"No space left":         {l.dir + "/one", vm + ":/run/small/"},
		"not done within 1ms":   {"--timeout", "1ms", l.dir + "/one", vm + ":/run/late"},
	} {
		l.must("exec", "--agent", vm, "sh", "-c", "mountpoint -q /run/small || { mkdir -p /run/small; mount -t tmpfs -o size=64k none /run/small; }")
		code, _, errout := l.qnet(append([]string{"cp", "--agent"}, args...)...)
		if code != exitFailure || !strings.Contains(errout, want) {
			l.Errorf("cp %q: exit code %d, %s", args, code, errout)
		}
	}
	if got := l.must("exec", "--agent", vm, "sh", "-c", "stat -c '%a %U %n' /root/one /root/it*; ls -A /run/small"); got != "640 root /root/one\n640 root /root/it's $two\n" {
		l.Errorf("in the guest: %q", got)
	}
}

// sleeps suspends a Debian and resumes it: it has its address and processes, the host's time,
// and its lease is renewed at once, and for its whole time.
func (l *testHost) sleeps(vm string) {
	l.Helper()
	address := l.must("ip", vm)
	l.in(vm, "sudo", "sh", "-c", "echo kept > /run/kept; sleep 1000 > /dev/null 2>&1 & echo $! > /run/sleeper")
	l.must("suspend", vm)
	time.Sleep(5 * time.Second) // that the guest's clock would lack
	began := time.Now()
	l.must("resume", vm)
	l.Log("resume took", time.Since(began))
	p := l.start("wait", "--for", "ssh", "--timeout", debianTime.String(), vm)
	if code := p.end(debianTime + time.Minute); code != 0 {
		l.Fatalf("exit code %d\n%s", code, &p.errout)
	}
	l.Log("a login after", time.Since(began))
	if got := l.must("ip", vm); got != address {
		l.Errorf("its address was %q and is %q", address, got)
	}
	if got := l.in(vm, "sh", "-c", "cat /run/kept; ps -o comm= -p $(cat /run/sleeper)"); got != "kept\nsleep" {
		l.Errorf("of what ran in the guest there is %q", got)
	}
	before := time.Now()
	seconds, err := strconv.ParseInt(l.in(vm, "date", "+%s"), 10, 64)
	if now := time.Unix(seconds, 0); err != nil || now.Before(before.Add(-2*time.Second)) || now.After(time.Now().Add(2*time.Second)) {
		l.Errorf("the guest's time is %v at %v, %v", now, before, err)
	}
	l.in(vm, "sudo", "networkctl", "renew", "eth0")
	lease := l.in(vm, "sh", "-c", "ip -4 -o address show dev eth0 | grep -o 'valid_lft [0-9]*'; ping -c 1 -W 5 203.0.113.1 > /dev/null && echo outside")
	if !strings.HasPrefix(lease, "valid_lft ") || !strings.HasSuffix(lease, "outside") {
		l.Errorf("after DHCP: %q", lease)
	}
}

// losesPower kills a Debian's QEMU and its supervisor while it writes and syncs. Its disk has
// what was synced, and boots again, with a share now: host and guest have each other's files,
// which belong to the user on both sides.
func (l *testHost) losesPower(vm, profile string) {
	l.Helper()
	l.in(vm, "sh", "-c", "echo synced > ~/synced; sync; { while :; do dd if=/dev/urandom of=$HOME/written bs=64k count=16 conv=fsync; done; } > /dev/null 2>&1 & sleep 3; until test -s ~/written; do sleep 1; done")
	s := l.state(vm)
	for _, pid := range []int{s.QEMU, s.PID} {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			l.Fatal(err)
		}
	}
	lab.Eventually(l, time.Minute, "the VM is gone", func() bool { return !strings.Contains(l.must("ps"), vm) })
	lab.Require(l, virtiofsd)
	lab.Sh(l, "mkdir "+l.dir+"/shared; echo of the host > "+l.dir+"/shared/theirs")
	text := read(l.T, profile)
	l.profile(vm, strings.Replace(text, "\n[boot]", "\n[[share]]\npath = \"shared\"\nmount = \"/src\"\n[boot]", 1))
	l.must("run", "-d", profile)
	l.boots(vm)
	if got := l.in(vm, "sh", "-c", "cat ~/synced; cat /src/theirs; echo of the guest > /src/ours; stat -c %U /src/theirs /src/ours"); got != "synced\nof the host\nme\nme" {
		l.Errorf("after the power was lost: %q", got)
	}
	info, err := os.Stat(l.dir + "/shared/ours")
	if err != nil || int(info.Sys().(*syscall.Stat_t).Uid) != os.Getuid() || read(l.T, l.dir+"/shared/ours") != "of the guest\n" {
		l.Errorf("what the guest wrote: %+v, %v", info, err)
	}
	l.must("stop", "--force", vm)
}

// stops has a guest shut down, which takes long on a busy machine.
func (l *testHost) stops(vm string) {
	l.Helper()
	p := l.start("stop", "--timeout", debianTime.String(), vm)
	if code := p.end(debianTime + time.Minute); code != 0 {
		l.Fatalf("stop: exit code %d, %s", code, &p.errout)
	}
}

// copies moves a file to the guest and back.
func (l *testHost) copies() {
	l.Helper()
	want := bytes.Repeat([]byte("content\n"), 1000)
	if err := os.WriteFile(l.dir+"/file", want, 0o644); err != nil {
		l.Fatal(err)
	}
	l.must("cp", l.dir+"/file", "web:/tmp/")
	l.must("cp", "web:/tmp/file", l.dir+"/back")
	if got, err := os.ReadFile(l.dir + "/back"); err != nil || !bytes.Equal(got, want) {
		l.Errorf("%d bytes came back, %v", len(got), err)
	}
}

// keys checks who gets in, and that secrets are where they should be only.
func (l *testHost) keys() {
	l.Helper()
	if got := l.must("ssh", "-o", "IdentitiesOnly=yes", "-i", l.dir+"/home/.ssh/id_ed25519", "web", "id", "-un"); got != "me\n" {
		l.Errorf("by the user's own key: %q", got)
	}
	plan := l.must("plan", "--json", l.dir+"/web.toml")
	if strings.Contains(plan, "PRIVATE KEY") || !strings.Contains(plan, "first_boot") {
		l.Errorf("plan: %s", plan)
	}
	out, err := exec.Command("grep", "-rlE", "PRIVATE KEY", l.dir+"/state", l.run).Output()
	for _, path := range strings.Fields(string(out)) {
		info, statErr := os.Stat(path)
		known := path == gather.OwnKey(l.dir+"/state/config") || strings.Contains(path, "/hostkeys/") || strings.HasSuffix(path, "/disk.qcow2")
		if statErr != nil || !known || info.Mode().Perm() != 0o600 {
			l.Errorf("a private key is in %s, %v", path, info.Mode())
		}
	}
	if err != nil || len(out) == 0 {
		l.Errorf("%v, %s", err, out)
	}
}

// agentAnswers waits until QEMU's guest agent runs commands.
func (l *testHost) agentAnswers(vm string) {
	l.Helper()
	lab.Eventually(l, debianTime, "the guest agent answers", func() bool {
		code, _, _ := l.qnet("exec", "--agent", "--timeout", "10s", vm, "true")
		return code == 0
	})
}

// Files come to a guest that has neither network nor cloud-init, and from it.
func TestCopyWithoutANetwork(t *testing.T) {
	if !lab.Stress() {
		t.Skip("one more boot; QNET_STRESS=1 runs it")
	}
	debianHost(t, func(l *testHost) {
		l.must("run", "-d", l.debian("alone", "cloud-init=disabled", "[guest]\nuser = \"root\"\n[[nic]]\nmode = \"none\"\n[devices]\nguest_agent = true\n"))
		l.agentAnswers("alone")
		l.must("exec", "alone", "true") // by the agent, as there is no other way
		l.copiesByAgent("alone")
		l.must("cp", "alone:/etc/hostname", l.dir)
		l.must("stop", "--force", "alone")
	})
}

// A guest without cloud-init takes root's key and its host keys as systemd's credentials. They
// configure no link: an image has to do that itself, and this one leaves it to cloud-init.
func TestCredentials(t *testing.T) {
	if !lab.Stress() {
		t.Skip("one more boot; QNET_STRESS=1 runs it")
	}
	debianHost(t, func(l *testHost) {
		l.must("run", "-d", l.debian("old", "cloud-init=disabled", "[guest]\nuser = \"root\"\ntimezone = \"Europe/Berlin\"\n[[nic]]\nmode = \"nat\"\n[devices]\nguest_agent = true\n"))
		l.agentAnswers("old")
		l.must("exec", "--agent", "old", "sh", "-c", `mkdir -p /run/systemd/network
printf '[Match]\nName=e*\n[Network]\nDHCP=yes\n' > /run/systemd/network/lan.network; networkctl reload`)
		p := l.start("wait", "--for", "ssh", "--timeout", debianTime.String(), "old")
		if code := p.end(debianTime + time.Minute); code != 0 {
			t.Fatalf("exit code %d, %s", code, &p.errout)
		}
		for command, want := range map[string]string{
			"id -un":                      "root",
			"ls /run/credentials/@system": "firstboot.timezone\nssh.authorized_keys.root\nsystem.hostname\ntmpfiles.extra",
			"cat /run/credentials/@system/system.hostname":         "old",
			"stat -c %a /etc/ssh/ssh_host_ed25519_key":             "600",
			"cut -d ' ' -f 3 ~/.ssh/authorized_keys | sort":        "mine\nqnet",
			"cat /run/cloud-init/status.json 2> /dev/null | wc -c": "0",
		} {
			if got := l.in("old", "sh", "-c", command); got != want {
				t.Errorf("%s: got %q, want %q", command, got, want)
			}
		}
		l.must("stop", "--force", "old")
	})
}
