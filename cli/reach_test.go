package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
)

// outside is a VM whose profile names a kernel and a disk outside its folder, by a link too.
type outside struct {
	*testHost
	dir, secret, path string
	flags, words      []string // that allow it, and by which it is refused
}

const secretDisk = "[[disk]]\nfile = \"link\"\nformat = \"qcow2\"\n"

func (l *testHost) outside() outside {
	l.Helper()
	o := outside{testHost: l, dir: filepath.Join(l.dir, "own"), secret: filepath.Join(l.dir, "secret")}
	o.path = filepath.Join(o.dir, "g.toml")
	lab.Sh(l, "mkdir "+o.dir+" "+o.secret+"; qemu-img create -q -f qcow2 "+o.dir+"/base 8M; qemu-img create -q -f qcow2 "+o.secret+"/disk 8M; ln -s ../secret/disk "+o.dir+"/link; chown -R 64001:64001 "+o.dir+" "+o.secret)
	kernel, initrd := guestIn(l, o.secret)
	o.flags = []string{"--allow-path", kernel, "--allow-path", initrd, "--allow-path", o.secret + "/disk"}
	o.write(secretDisk)
	o.words = []string{
		o.path + `:5: boot.kernel: got "` + kernel + `", outside the profile's own folder "` + o.dir + `"; allowed: `, o.path + ":6: boot.initrd: got ",
		o.path + `:10: disk[0].file: got "` + o.dir + `/link", which leads to "` + o.secret + `/disk", outside `,
		"if you mean it: qnet run " + strings.Join(o.flags, " ") + " " + o.path + "; a line with the path in " + l.dir + "/state/config/allow-paths allows it to all profiles",
	}
	return o
}

// write writes the profile, which ends with rest.
func (o outside) write(rest string) {
	o.Helper()
	text := idle + fmt.Sprintf("image = \"./base\"\n[boot]\nkernel = %q\ninitrd = %q\n[[nic]]\nmode = \"none\"\n", "../secret/"+filepath.Base(o.flags[1]), o.flags[3]) + rest
	if err := os.WriteFile(o.path, []byte(text), 0o644); err != nil {
		o.Fatal(err)
	}
}

// It is refused with the command that allows all of it. What runs the VM afterwards knows what its
// run was allowed.
func TestProfileNamesWhatIsOutside(t *testing.T) {
	lab.Require(t, lab.Program("qemu-img"))
	for name, sudo := range map[string]string{"root": "", "sudo": "64001"} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *testHost) {
				l.env = append(l.env, "SUDO_UID="+sudo, "SUDO_GID="+sudo)
				if sudo != "" {
					lab.Sh(l, "install -d -o "+sudo+" "+l.dir+"/state")
				}
				o := l.outside()
				for _, args := range [][]string{{"run"}, {"run", "-d"}, {"check"}, {"run", "--allow-path", o.dir}} {
					l.refused(exitUsage, o.words, append(args, o.path)...)
				}
				l.refused(exitUsage, o.words[2:3], append(append([]string{"run"}, o.flags[:4]...), o.path)...)
				plan := l.must("plan", o.path)
				for _, w := range o.words {
					if strings.Count(plan, "# note: ") != 4 || !strings.Contains(plan, w) {
						t.Errorf("plan lacks %s:\n%s", w, plan)
					}
				}
				o.allowed()
			})
		})
	}
}

// A profile that names more by now is refused before its VM ends. The settings allow it to all
// profiles, as long as they do.
func TestProfileNamesMore(t *testing.T) {
	lab.Require(t, lab.Program("qemu-img"))
	inLab(t, func(l *testHost) {
		o := l.outside()
		l.must(append(append([]string{"run", "-d"}, o.flags...), o.path)...)
		o.write(secretDisk + "[[disk]]\nfile = \"/etc/passwd\"\nformat = \"raw\"\nreadonly = true\n")
		pid := l.state("g").QEMU
		l.refused(exitUsage, []string{`disk[1].file: got "/etc/passwd"`, "--allow-path /etc/passwd"}, "restart", "--force", "g")
		if now := l.state("g").QEMU; now != pid {
			t.Errorf("it ran as %d, and runs as %d", pid, now)
		}
		l.must("stop", "--force", "g")
		l.refused(exitUsage, []string{`disk[1].file: got "/etc/passwd"`}, "start", "g")
		o.write(secretDisk)
		l.must("rm", "g")
		o.bySettings()
	})
}

// bySettings runs the VM with the settings alone.
func (o outside) bySettings() {
	o.Helper()
	settings := filepath.Join(o.testHost.dir, "state/config/allow-paths")
	write := func(text string) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(settings), 0o755), os.WriteFile(settings, []byte(text), 0o644)); err != nil {
			o.Fatal(err)
		}
	}
	write("# of all VMs\n" + o.secret + "\n")
	o.must("check", o.path)
	o.must("run", "-d", o.path)
	o.must("stop", "--force", "g")
	o.must("start", "g")
	o.must("stop", "--force", "g")
	write("\n~/secret\n")
	for _, args := range [][]string{{"run", o.path}, {"check", o.path}, {"start", "g"}} {
		o.refused(exitUsage, []string{settings + `:2: got "~/secret", allowed: `}, args...)
	}
	if err := os.Remove(settings); err != nil {
		o.Fatal(err)
	}
	o.refused(exitUsage, o.words, "start", "g")
	o.must("rm", "g")
}

// allowed runs the VM with the flags, and by all that runs it again without them.
func (o outside) allowed() {
	o.Helper()
	o.must(append(append([]string{"check"}, o.flags...), o.path)...)
	if plan := o.must(append(append([]string{"plan"}, o.flags...), o.path)...); strings.Contains(plan, "refused") {
		o.Errorf("plan with what is allowed:\n%s", plan)
	}
	o.must(append(append([]string{"run", "-d"}, o.flags...), o.path)...)
	for _, args := range [][]string{
		{"restart", "--force", "g"},
		{"suspend", "g"},
		{"resume", "g"},
		{"stop", "--force", "g"},
		{"snapshot", "save", "g", "one"},
		{"snapshot", "restore", o.path, "one"},
		{"start", "g"},
		{"stop", "--force", "g"},
		{"rm", "g"},
	} {
		o.must(args...)
	}
}
