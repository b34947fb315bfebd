package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
)

// inside makes commands run within another program, such as prlimit.
func (l *testHost) inside(within string) {
	l.Helper()
	exe, err := os.Executable()
	if err != nil {
		l.Fatal(err)
	}
	l.binary = filepath.Join(l.dir, "within")
	text := fmt.Sprintf("#!/bin/sh\nexec %s %s \"$@\"\n", within, exe)
	if err := os.WriteFile(l.binary, []byte(text), 0o755); err != nil {
		l.Fatal(err)
	}
}

// What a container, a full disk or a limit takes away is named with the way out, and nothing
// on the host has changed.
func TestScarce(t *testing.T) {
	inLab(t, func(l *testHost) {
		lab.Require(t, lab.Program("prlimit"), lab.Program("setpriv"))
		full := filepath.Join(l.dir, "full")
		lab.Sh(t, "mkdir "+full)
		nat := l.profile("vm", idle+"[[nic]]\nmode = \"nat\"\n")
		const readOnly = "mount --bind /proc/sys /proc/sys; mount -o remount,ro,bind /proc/sys"
		for name, c := range map[string]struct {
			before, after string // commands around the run
			within        string
			code          int
			words         []string
			args          []string
		}{
			"read-only sysctls": {
				before: readOnly, after: "umount /proc/sys",
				code: exitIncapable, words: []string{"/proc/sys is read-only", "--privileged", "systempaths=unconfined", `mode = "user"`},
			},
			"tun without a driver": {
				before: "mount -t tmpfs none /dev/net; mknod /dev/net/tun c 10 199", after: "umount /dev/net",
				code: exitIncapable, words: []string{"/dev/net/tun is there, and no driver behind it", "modprobe tun"},
			},
			"no raw sockets": {
				within: "setpriv --bounding-set -net_raw --inh-caps -net_raw",
				code:   exitIncapable, words: []string{"it needs CAP_NET_RAW", "--cap-add NET_RAW"},
			},
			"no rights": {
				within: "setpriv --bounding-set -net_raw,-net_admin --inh-caps -net_raw,-net_admin",
				code:   exitIncapable, words: []string{"it needs CAP_NET_ADMIN and CAP_NET_RAW", "sudo"},
			},
			"few files": {
				within: "prlimit --nofile=20",
				code:   exitFailure, words: []string{"too many open files", "ulimit -n"},
			},
			"a full run directory": {
				before: "mount -t tmpfs -o size=4k,nr_inodes=12 none " + full + "; head -c 4096 /dev/zero > " + full + "/all", after: "umount " + full,
				args: []string{"--run-dir", full + "/run"},
				code: exitFailure, words: []string{"no space left on device", "df"},
			},
			"a full state directory": {
				before: "mount -t tmpfs -o size=4k none " + full + "; head -c 4096 /dev/zero > " + full + "/all", after: "umount " + full,
				args: []string{"--state-dir", full + "/state"},
				code: exitIncapable, words: []string{"write salt", "no space left on device", "make room", "--state-dir"},
			},
			"a read-only run directory": {
				before: "mount -t tmpfs -o ro none " + full, after: "umount " + full,
				args: []string{"--run-dir", full + "/run"},
				code: exitIncapable, words: []string{"read-only file system", "--run-dir"},
			},
		} {
			t.Log(name)
			if c.before != "" {
				lab.Sh(t, c.before)
			}
			if c.within != "" {
				l.inside(c.within)
			}
			l.refused(c.code, c.words, append(c.args, "run", nat)...)
			if l.binary = ""; c.after != "" {
				lab.Sh(t, c.after)
			}
		}

		// The plan and doctor say of the sysctls what the run says.
		lab.Sh(t, readOnly)
		l.refused(exitIncapable, []string{"/proc/sys is read-only", "--privileged"}, "plan", nat)
		l.refused(exitIncapable, nil, "doctor", nat)
		lab.Sh(t, "umount /proc/sys; rm -r "+full)
	})
}
