package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image/png"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
)

// shown is a VM that shows its firmware's menu on a screen, and starts nothing.
const shown = "memory = \"64MiB\"\naccel = \"tcg\"\n[boot]\nmenu = true\n[display]\ntype = %q\n[devices]\ngdb = true\n[[nic]]\nmode = \"none\"\n"

// The user behind sudo sees the screen, types, and debugs; the sockets are that user's alone
// and go with the VM.
func TestScreen(t *testing.T) {
	inLab(t, func(l *testHost) {
		home := filepath.Join(l.dir, "home")
		lab.Sh(t, "install -d -o 65534 "+home)
		l.env = append(l.env, "HOME="+home, "SUDO_UID=65534", "SUDO_GID=65534", "DISPLAY=", "WAYLAND_DISPLAY=")
		l.must("run", "-d", l.profile("scr", fmt.Sprintf(shown, "vnc")))
		l.consoleHas("scr", "Press ESC for boot menu")
		l.must("type", "scr", "<esc>")
		l.consoleHas("scr", "Select boot device")

		file := filepath.Join(home, "screen.png")
		l.must("screenshot", "scr", file)
		info, err := os.Stat(file)
		if err != nil || info.Sys().(*syscall.Stat_t).Uid != 65534 {
			t.Errorf("the picture is not the user's: %v, %v", info, err)
		}
		whole := l.must("screenshot", "scr", "-")
		if picture, err := png.Decode(bytes.NewReader([]byte(whole))); err != nil || picture.Bounds().Dx() != 720 {
			t.Errorf("got %d bytes, %v", len(whole), err)
		}
		l.refused(exitFailure, []string{"permission denied"}, "screenshot", "scr", "/root/screen.png")
		l.refused(exitUsage, []string{`got "<nosuch>"`}, "type", "scr", "<nosuch>")
		l.sockets(home)

		l.must("stop", "--force", "scr")
		l.refused(exitFailure, []string{"not running"}, "screenshot", "scr", file)
	})
}

// consoleHas waits until the VM has written a text to its console.
func (l *testHost) consoleHas(name, words string) {
	l.Helper()
	lab.Eventually(l.T, 2*time.Minute, words, func() bool {
		b, _ := os.ReadFile(filepath.Join(l.dir, "state/logs", name, "console.log"))
		return bytes.Contains(b, []byte(words))
	})
}

// sockets checks those of VM scr, and the viewer that is run on one.
func (l *testHost) sockets(home string) {
	l.Helper()
	dir := filepath.Join(l.run, "vms/scr")
	for _, name := range []string{"vnc.sock", "gdb.sock"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 || info.Sys().(*syscall.Stat_t).Uid != 65534 {
			l.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if got := l.must("view", "--print", "scr"); got != dir+"/vnc.sock\n" {
		l.Errorf("got %q", got)
	}
	if got := l.must("ps", "--json"); !strings.Contains(got, `"screen": "`+dir+`/vnc.sock"`) || !strings.Contains(got, `"gdb": "`+dir+`/gdb.sock"`) {
		l.Errorf("got %s", got)
	}
	if got := say(l, dir+"/vnc.sock", "", 4); got != "RFB " {
		l.Errorf("a viewer got %q", got)
	}
	if got := say(l, dir+"/gdb.sock", "$?#3f", 3); !strings.Contains(got, "$T") { // the remote protocol's question why it stopped
		l.Errorf("gdb got %q", got)
	}
	viewer := "#!/bin/sh\n[ \"$1\" = --version ] && echo TigerVNC Viewer && exit 1\necho \"$(id -u) $DISPLAY $1\" > " + home + "/viewed\n"
	if err := os.WriteFile(filepath.Join(l.dir, "vncviewer"), []byte(viewer), 0o755); err != nil {
		l.Fatal(err)
	}
	defer func(env []string) { l.env = env }(l.env)
	l.env = append(l.env, "PATH="+l.dir)
	l.refused(exitFailure, []string{"no desktop", dir + "/vnc.sock"}, "view", "scr")
	l.env = append(l.env, "DISPLAY=:7")
	l.must("view", "scr")
	if b, err := os.ReadFile(home + "/viewed"); err != nil || string(b) != "65534 :7 "+dir+"/vnc.sock\n" {
		l.Errorf("the viewer was run as %q, %v", b, err)
	}
	l.env = append(l.env, "PATH="+home)
	l.refused(exitIncapable, []string{"no VNC viewer", "tigervnc-viewer"}, "view", "scr")
}

// say connects to a socket, says something, and returns the first bytes of the answer.
func say(l *testHost, path, words string, n int) string {
	l.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		l.Error(err)
		return ""
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprint(c, words)
	b := make([]byte, 64)
	got := ""
	for len(got) < n {
		m, err := c.Read(b)
		if err != nil {
			break
		}
		got += string(b[:m])
	}
	return got[:min(n, len(got))]
}

// The log of a VM names the end of its TPM; the guest runs on.
func TestTPMDies(t *testing.T) {
	lab.Require(t, lab.Program("swtpm"))
	inLab(t, func(l *testHost) {
		l.must("run", "-d", l.profile("tpm", "memory = \"64MiB\"\naccel = \"tcg\"\ntpm = true\n[[nic]]\nmode = \"none\"\n"))
		var state []struct{ PID int }
		if err := json.Unmarshal([]byte(l.must("ps", "--json")), &state); err != nil || len(state) != 1 {
			t.Fatal(err)
		}
		lab.Sh(t, fmt.Sprintf("pkill -KILL -P %d swtpm", state[0].PID))
		lab.Eventually(t, 20*time.Second, "a note", func() bool {
			b, _ := os.ReadFile(filepath.Join(l.dir, "state/logs/tpm/qnet.log"))
			return strings.Contains(string(b), "swtpm, the VM's TPM, ended: signal: killed; the guest runs on without a TPM")
		})
		if got := l.must("ps"); !strings.Contains(got, "running") {
			t.Errorf("got %s", got)
		}
		l.must("stop", "--force", "tpm")
	})
}

// type = "window" opens the viewer when the VM runs; without one nothing is started.
func TestWindow(t *testing.T) {
	inLab(t, func(l *testHost) {
		path := l.profile("win", fmt.Sprintf(shown, "window"))
		tools := filepath.Join(l.dir, "tools")
		lab.Sh(t, "mkdir "+tools)
		l.env = append(l.env, "DISPLAY=:7", "WAYLAND_DISPLAY=", "PATH="+tools)
		l.refused(exitIncapable, []string{`show window of VM "win": no VNC viewer`}, "run", "-d", path)
		viewer := "#!/bin/sh\n[ \"$1\" = --version ] && echo TigerVNC Viewer && exit 1\necho \"$DISPLAY $1\" > " + l.dir + "/viewed\n"
		if err := os.WriteFile(filepath.Join(tools, "vncviewer"), []byte(viewer), 0o755); err != nil {
			t.Fatal(err)
		}
		l.must("run", "-d", path)
		lab.Eventually(t, 20*time.Second, "the viewer", func() bool {
			b, _ := os.ReadFile(l.dir + "/viewed")
			return string(b) == ":7 "+filepath.Join(l.run, "vms/win/vnc.sock")+"\n"
		})
		l.must("stop", "--force", "win")
		l.env = append(l.env, "DISPLAY=")
		l.refused(exitFailure, []string{"no desktop"}, "run", path)
	})
}
