package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/qemu/program"
)

// environ is the environment of a process.
func environ(t *testing.T, pid int) []string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		t.Fatal(err)
	}
	list := strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
	// The test's own binary gets where it writes its coverage and races.
	return slices.DeleteFunc(list, func(v string) bool {
		return strings.HasPrefix(v, "GOCOVERDIR=") || strings.HasPrefix(v, "GORACE=") || v == ""
	})
}

// runsOrRefuses runs a VM under what the test has set up. Either it runs, with the environments that
// qnet's source has, or the command fails in words and the host is as before.
func (l *testHost) runsOrRefuses(what, path string) {
	l.Helper()
	before := lab.Snapshot(l.T, l.run)
	code, _, talk := l.qnet("run", "-d", path)
	if code != 0 {
		if strings.TrimSpace(talk) == "" || strings.Contains(talk, "goroutine ") {
			l.Errorf("%s: exit code %d, and it says %.2000q", what, code, talk)
		}
		l.Logf("%s: refused: %.300s", what, strings.TrimSpace(talk))
		before.Check(l)
		return
	}
	binary := l.binary
	l.binary = "" // to look and stop, nothing is in the way
	vm := l.state("vm")
	if got := environ(l.T, vm.QEMU); !slices.Equal(got, program.Environment()) {
		l.Errorf("%s: QEMU has the environment %q", what, got)
	}
	if got, want := environ(l.T, l.networks()[0].KeeperPID), []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}; !slices.Equal(got, want) {
		l.Errorf("%s: the keeper has the environment %q", what, got)
	}
	l.must("stop", "--force", "vm")
	l.binary = binary
	l.Logf("%s: runs", what)
	before.Check(l)
}

// The caller's environment means nothing to what a privileged run starts, and programs of the
// directory that it is called in are not run.
func TestForgedEnvironment(t *testing.T) {
	inLab(t, func(l *testHost) {
		path := l.profile("vm", idle+"[[nic]]\nmode = \"nat\"\n")
		evil := filepath.Join(l.dir, "evil")
		canary := filepath.Join(l.dir, "canary")
		lab.Sh(t, "mkdir "+evil)
		for _, name := range []string{"qemu-system-x86_64", "qemu-img", "ip", "nft", "iptables", "iptables-save", "ip6tables", "sysctl", "modprobe", "sh", "getent"} {
			if err := os.WriteFile(filepath.Join(evil, name), []byte("#!/bin/sh\n: > "+canary+"\nexit 1\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		l.prepared()
		usual := l.env
		dir, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		t.Chdir(evil)
		for what, forged := range map[string][]string{
			"loader":          {"LD_PRELOAD=" + evil + "/x.so", "LD_LIBRARY_PATH=" + evil, "LD_AUDIT=" + evil + "/x.so", "QEMU_MODULE_DIR=" + evil, "GCONV_PATH=" + evil},
			"path":            {"PATH=.", "GODEBUG=execerrdot=0"},
			"empty path":      {"PATH="},
			"relative path":   {"PATH=:../evil:.", "GODEBUG=execerrdot=0,netdns=cgo"},
			"another's home":  {"HOME=/nonexistent", "XDG_RUNTIME_DIR=/run/user/64001", "XDG_CONFIG_HOME=" + evil, "XDG_DATA_HOME=" + evil},
			"shell functions": {"BASH_ENV=" + evil + "/sh", "ENV=" + evil + "/sh", "IFS=/", "BASH_FUNC_ip%%=() { :; }"},
			"runtime":         {"GOGC=off", "GOMEMLIMIT=1", "GOTRACEBACK=crash", "GODEBUG=madvdontneed=1,netdns=go", "NOTIFY_SOCKET=/nonexistent", "LISTEN_FDS=9", "LISTEN_PID=1"},
		} {
			l.env = append(slices.Clone(usual), forged...)
			l.runsOrRefuses(what, path)
		}
		t.Chdir(dir)
		l.env = usual
		if _, err := os.Stat(canary); err == nil {
			t.Error("a program of the caller's ran")
		}
	})
}

// What a forged user behind sudo gets is refused in words, or the run is that user's; never root's.
func TestForgedSudo(t *testing.T) {
	inLab(t, func(l *testHost) {
		path := l.profile("vm", idle+"[[nic]]\nmode = \"nat\"\n")
		lab.Sh(t, "chmod 755 "+l.dir)
		usual := l.env
		l.prepared()
		for _, forged := range [][2]string{
			{"-1", "65534"},
			{"4294967295", "65534"},
			{"4294967296", "65534"},
			{"abc", "65534"},
			{"65534", ""},
			{"65534", "-1"},
			{"65534", "4294967295"},
			{"65534", "x"},
			{" 65534", "65534"},
			{"0x1", "65534"},
			{"1e3", "65534"},
			{"65534\x01", "65534"},
		} {
			l.env = append(slices.Clone(usual), "SUDO_UID="+forged[0], "SUDO_GID="+forged[1], "SUDO_USER=root")
			l.refused(exitFailure, []string{"SUDO_"}, "run", "-d", path)
		}
		for _, uid := range []string{"64077", "65534"} { // the first has no entry in passwd(5)
			l.env = append(slices.Clone(usual), "SUDO_UID="+uid, "SUDO_GID="+uid, "SUDO_USER=root", "HOME=/root")
			l.must("run", "-d", path)
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.state("vm").QEMU))
			if err != nil || !strings.Contains(string(status), "\nUid:\t"+uid+"\t"+uid+"\t"+uid+"\t"+uid+"\n") {
				t.Errorf("QEMU of user %s: %v\n%s", uid, err, status)
			}
			l.must("stop", "--force", "vm")
		}
		l.env = append(slices.Clone(usual), "SUDO_UID=0", "SUDO_GID=0", "SUDO_USER=root")
		l.runsOrRefuses("root's own sudo", path)
	})
}

// Closed descriptors and tiny limits: a run works, or fails in words and changes nothing.
func TestTinyLimits(t *testing.T) {
	lab.Require(t, lab.Program("prlimit"))
	inLab(t, func(l *testHost) {
		path := l.profile("vm", idle+"[[nic]]\nmode = \"nat\"\n")
		l.inside("env")
		l.prepared()
		for what, within := range map[string]string{
			"closed stdin": "", "closed stdout": "", "closed stderr": "", "all closed": "",
			"3 files": "prlimit --nofile=3:3", "4 files": "prlimit --nofile=4:4", "6 files": "prlimit --nofile=6:6", "8 files": "prlimit --nofile=8:8", "10 files": "prlimit --nofile=10:10",
			"12 files": "prlimit --nofile=12:12", "16 files": "prlimit --nofile=16:16", "24 files": "prlimit --nofile=24:24", "files of no bytes": "prlimit --fsize=0:0", "files of 4 KiB": "prlimit --fsize=4096:4096",
			"a core file": "prlimit --core=unlimited:unlimited", "locked memory": "prlimit --memlock=0:0", "a small stack": "prlimit --stack=65536:65536", "little time": "prlimit --cpu=1000:1000",
		} {
			closed := map[string]string{"closed stdin": "<&-", "closed stdout": ">&-", "closed stderr": "2>&-", "all closed": "<&- >&- 2>&-"}[what]
			l.inside("env")
			text, err := os.ReadFile(l.binary)
			if err != nil {
				t.Fatal(err)
			}
			line := strings.Replace(strings.TrimSpace(string(text)), "exec env ", "exec "+within+" ", 1)
			if err := os.WriteFile(l.binary, []byte(line+" "+closed+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			if closed != "" {
				before := lab.Snapshot(t, l.run)
				code, _, talk := l.qnet("run", "-d", path)
				if code != 0 {
					t.Errorf("%s: exit code %d\n%s", what, code, talk)
				}
				l.binary = ""
				l.must("stop", "--force", "vm")
				before.Check(t)
				continue
			}
			l.runsOrRefuses(what, path)
		}
		l.binary = ""
		os.Remove(filepath.Join(l.dir, "within"))
	})
}
