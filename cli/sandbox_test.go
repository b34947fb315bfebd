package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/keeper"
)

// What confines a VM's QEMU is what ps shows, and what the kernel says of the process.
func TestSandbox(t *testing.T) {
	inLab(t, func(l *testHost) {
		l.refused(exitUsage, []string{`--sandbox: got "most", allowed: auto, required, off`}, "run", "-d", "--sandbox", "most", l.profile("a", idle))
		l.must("run", "-d", "--sandbox", "required", l.profile("a", idle))
		l.must("run", "-d", "--sandbox", "off", l.profile("b", idle))
		if c := l.state("a").Confined; c == nil || len(c.Missing) != 0 || c.Mode != "required" || c.UID == 0 || c.UID == l.state("b").Confined.UID {
			t.Errorf("a: %+v; b: %+v", c, l.state("b").Confined)
		}
		out := l.must("ps", "--security")
		for _, want := range []string{"NAME", "filter, files (Landlock ", "namespaces, limits", "files: --sandbox=off; namespaces: --sandbox=off"} {
			if !strings.Contains(out, want) {
				t.Errorf("ps --security lacks %q:\n%s", want, out)
			}
		}
		// The mode is the run's: the next one is confined again.
		l.must("stop", "--force", "b")
		l.must("run", "-d", l.profile("b", idle))
		if c := l.state("b").Confined; c == nil || len(c.Missing) != 0 {
			t.Errorf("started again: %+v", c)
		}
		// Arguments of the user's own may name any file, and so need more.
		l.must("stop", "--force", "a")
		l.refused(exitIncapable, []string{"--sandbox=required", "behind --", "--sandbox=auto starts without"}, "run", "-d", "--sandbox", "required", l.profile("a", idle), "--", "-device", "virtio-balloon-pci")
		l.must("stop", "--force", "b")
	})
}

// What confines a network's clerk is what net shows, and what the kernel says of the process.
func TestClerkIsShown(t *testing.T) {
	inLab(t, func(l *testHost) {
		profile := l.profile("a", idle+"[[nic]]\nmode = \"nat\"\nnetwork = \"dev\"\n[[nic]]\nmode = \"private\"\nnetwork = \"bare\"\n")
		l.must("run", "-d", "--sandbox", "required", profile)
		var infos []keeper.Info
		if err := json.Unmarshal([]byte(l.must("net", "--json")), &infos); err != nil || len(infos) != 2 || infos[0].Clerk != nil || infos[1].Clerk == nil || len(infos[1].Clerk.Missing) != 0 {
			t.Fatalf("got %+v, %v", infos, err)
		}
		out, clerk := l.must("net", "--security"), infos[1].Clerk
		for _, want := range []string{"NAME  CONFINED", fmt.Sprintf("dev   user %d, filter, files (Landlock ", clerk.UID), "), tcp  -\n", "bare  -"} {
			if !strings.Contains(out, want) {
				t.Errorf("net --security lacks %q:\n%s", want, out)
			}
		}
		for _, pid := range clerks(t) {
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if !strings.Contains(string(status), fmt.Sprintf("Uid:\t%d\t", clerk.UID)) {
				t.Errorf("a clerk is no process of user %d: %s", clerk.UID, status)
			}
		}
		l.must("stop", "--force", "a")
		// Where root has no other users but nobody, two networks' clerks are one user.
		p := l.command("run", "-d", "--sandbox", "required", profile)
		only := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}, {ContainerID: 65534, HostID: 65534, Size: 1}}
		p.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: only, GidMappings: only, GidMappingsEnableSetgroups: true}
		p.begin()
		if code, said := p.end(time.Minute), p.errout.String(); code != exitIncapable || !strings.Contains(said, `the clerk of network "dev" cannot be confined in full: user: `) || !strings.Contains(said, "qnet net --security shows it") {
			t.Errorf("exit code %d: %s", code, said)
		}
	})
}

// clerks waits for clerks in this network namespace.
func clerks(t *testing.T) (pids []int) {
	t.Helper()
	here, _ := os.Readlink("/proc/self/ns/net")
	lab.Eventually(t, 10*time.Second, "a clerk", func() bool {
		dirs, _ := filepath.Glob("/proc/[0-9]*")
		for _, dir := range dirs {
			ns, _ := os.Readlink(dir + "/ns/net")
			cmdline, _ := os.ReadFile(dir + "/cmdline")
			if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && ns == here && strings.HasSuffix(string(cmdline), "\x00--clerk\x00") {
				pids = append(pids, pid)
			}
		}
		return pids != nil
	})
	return pids
}
