package cli

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/sshclient"
)

// sshGuest is a VM that the test plays, whose address has a real SSH server.
type sshGuest struct {
	*caller
	vm      *played
	key     string // of the user root, who is let in once admit has run
	config  string
	server  *exec.Cmd
	vars    map[string]string
	address string
	onTalk  func(said string) // gets what qnet and ssh said so far
	verbose *bytes.Buffer     // gets what the server says, nil for nothing
}

const guestAddress = "127.0.0.9"

func withSSHGuest(t *testing.T, f func(g *sshGuest)) {
	t.Helper()
	lab.Require(t, lab.Root, lab.Program("sshd"), lab.Program("ssh"), lab.Program("ssh-keygen"), lab.Program("ip"))
	lab.Run(t, func(t *testing.T) {
		lab.Sh(t, "ip link set lo up; mkdir -p /run/sshd")
		u := newCaller(t)
		g := &sshGuest{caller: u, key: u.dir + "/key", address: guestAddress, vars: map[string]string{}}
		state := web()
		state.NICs[0].Seen.Addresses = addresses(guestAddress)
		state.NICs[0].Address = addresses(guestAddress)[0]
		state.Disk, state.Started = "inode 1", time.Now()
		g.vm = u.play(state, nil)
		lab.Sh(t, "ssh-keygen -q -t ed25519 -N '' -f "+g.key)
		g.serve("no")
		f(g)
	})
}

// serve starts the server with a new host key.
func (g *sshGuest) serve(passwords string) {
	g.Helper()
	g.stop()
	d := g.dir
	lab.Sh(g.T, "rm -f "+d+"/host "+d+"/host.pub; ssh-keygen -q -t ed25519 -N '' -f "+d+"/host")
	g.config = g.write("sshd_config", "ListenAddress "+g.address+"\nHostKey "+d+"/host\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n"+
		"AuthorizedKeysFile "+d+"/authorized\nPasswordAuthentication "+passwords+"\nKbdInteractiveAuthentication no\nSubsystem sftp internal-sftp\n")
	g.again()
}

// again starts the server as it was.
func (g *sshGuest) again() {
	g.Helper()
	path, err := exec.LookPath("sshd")
	if err != nil {
		g.Fatal(err)
	}
	g.server = exec.Command(path, "-D", "-e", "-f", g.config)
	if g.verbose != nil {
		g.server.Args = append(g.server.Args, "-o", "LogLevel=VERBOSE")
		g.server.Stderr = g.verbose
	}
	if err := g.server.Start(); err != nil {
		g.Fatal(err)
	}
	g.Cleanup(g.stop)
}

func (g *sshGuest) stop() {
	if g.server != nil {
		g.server.Process.Kill()
		g.server.Wait()
		g.server = nil
	}
}

// admit lets the user root in, as cloud-init does some time after the server listens.
func (g *sshGuest) admit() {
	g.Helper()
	lab.Sh(g.T, "cp "+g.key+".pub "+g.dir+"/authorized")
}

// talk is stderr, which tells the guest what was said.
type talk struct {
	bytes.Buffer
	g *sshGuest
}

func (w *talk) Write(b []byte) (int, error) {
	n, err := w.Buffer.Write(b)
	if w.g.onTalk != nil {
		w.g.onTalk(w.String())
	}
	return n, err
}

func (g *sshGuest) ssh(args ...string) (code int, stdout, stderr string) {
	g.Helper()
	var out bytes.Buffer
	said := &talk{g: g}
	env := g.env(&out, said)
	getenv := env.Getenv
	env.Getenv = func(name string) string {
		if v, ok := g.vars[name]; ok {
			return v
		}
		return getenv(name)
	}
	code = Main(g.Context(), append([]string{"ssh"}, args...), env)
	return code, out.String(), said.String()
}

func (g *sshGuest) opens(args ...string) string {
	g.Helper()
	code, out, said := g.ssh(args...)
	if code != 0 {
		g.Errorf("ssh %v: exit code %d\n%s", args, code, said)
	}
	return out
}

// ssh's own options, the user's name and the command reach ssh. Its exit code is qnet's.
func TestSSHTakesSSHsOptions(t *testing.T) {
	withSSHGuest(t, func(g *sshGuest) {
		g.admit()
		for _, args := range [][]string{
			{"-i", g.key, "-l", "root", "web", "echo", "in"},
			{"-vi", g.key, "root@web", "--", "echo", "in"},
			{"web.qnet", "-i" + g.key, "-l", "root", "echo in"},
			{"-o", "IdentityFile=" + g.key, "--login", "root", "--timeout", "20s", "web", "echo", "in"},
			{"-T", "-i", g.key, "-o", "User=root", "--", "web", "echo", "in"},
		} {
			if out := g.opens(args...); out != "in\n" {
				t.Errorf("ssh %q: %q", args, out)
			}
		}
		if code, _, said := g.ssh("-i", g.key, "root@web", "exit", "7"); code != 7 || strings.Contains(said, "waiting") {
			t.Errorf("exit code %d, %s", code, said)
		}
		line := g.opens("--print", "-i", g.key, "root@web", "echo", "it's", "in")
		out, err := exec.Command("sh", "-c", line).Output()
		if err == nil || len(out) > 0 { // the guest's shell sees the lone quote
			t.Errorf("%s: %q, %v", line, out, err)
		}
		line = g.opens("--print", "-i", g.key, "root@web", "echo in")
		if out, err := exec.Command("sh", "-c", line).Output(); err != nil || string(out) != "in\n" {
			t.Errorf("%s: %q, %v", line, out, err)
		}
	})
}

// A login is one connection: qnet makes none before. Where no server takes it yet, qnet waits
// for one.
func TestSSHTriesAtOnce(t *testing.T) {
	withSSHGuest(t, func(g *sshGuest) {
		g.admit()
		g.stop()
		g.verbose = &bytes.Buffer{}
		g.again()
		login := []string{"-i", g.key, "root@web", "echo", "in"}
		begin := time.Now()
		lab.Eventually(t, 10*time.Second, "the server listens", func() bool { return strings.Contains(lab.Sh(t, "ss -Hltn"), guestAddress+":22") })
		if out := g.opens(login...); out != "in\n" {
			t.Errorf("got %q", out)
		}
		g.stop()
		if got := strings.Count(g.verbose.String(), "Connection from"); got != 1 {
			t.Errorf("the server got %d connections within %s, want 1:\n%s", got, time.Since(begin), g.verbose)
		}
		g.verbose = nil
		g.onTalk = func(said string) {
			if strings.Contains(said, "web: waiting for port 22") {
				g.onTalk = nil
				g.again()
			}
		}
		code, out, said := g.ssh(login...)
		if code != 0 || out != "in\n" || strings.Contains(said, "Connection refused") {
			t.Errorf("exit code %d, %q, %s", code, out, said)
		}
		g.stop()
		code, _, said = g.ssh(append([]string{"--timeout", "1s"}, login...)...)
		if code == 0 || !strings.Contains(said, "wait for port 22 of VM \"web\": not within 1s") {
			t.Errorf("no server: exit code %d, %s", code, said)
		}
		if code, _, said := g.ssh(append([]string{"--no-wait"}, login...)...); code != 255 || !strings.Contains(said, "Connection refused") {
			t.Errorf("--no-wait: exit code %d, %s", code, said)
		}
	})
}

// A login that the guest refuses while it boots is tried again, and it is said why. One
// that fails later is not, and none where the user may have typed a password.
func TestSSHWhileTheGuestBoots(t *testing.T) {
	withSSHGuest(t, func(g *sshGuest) {
		login := []string{"-i", g.key, "root@web", "echo", "in"}
		const waits = "web: waiting for the guest to let you in (Permission denied (publickey))"
		g.onTalk = func(said string) {
			if strings.Contains(said, waits) {
				g.onTalk = nil
				g.admit()
			}
		}
		code, out, said := g.ssh(login...)
		if code != 0 || out != "in\n" || strings.Count(said, waits) != 1 || strings.Contains(said, "@"+guestAddress) {
			t.Errorf("exit code %d, %q, %s", code, out, said)
		}
		os.Remove(g.dir + "/authorized")
		refused := func(name string, args ...string) string {
			t.Helper()
			code, _, said := g.ssh(args...)
			if code != 255 || strings.Contains(said, "waiting for the guest to let you in") || !strings.Contains(said, "Permission denied (") {
				t.Errorf("%s: exit code %d, %s", name, code, said)
			}
			return said
		}
		refused("--no-wait", append([]string{"--no-wait"}, login...)...)
		g.serve("yes")
		lab.Sh(t, "rm -rf "+g.stateDir()+"/known_hosts.d")
		g.vars["SSH_ASKPASS"] = "/bin/false" // so ssh could ask
		if said := refused("a password", "-F", "none", "root@web", "echo", "in"); !strings.Contains(said, "web: the guest still boots, and does not take your keys") || !strings.Contains(said, "hint: the guest still boots") {
			t.Errorf("a password: %s", said)
		}
		const waitsForKey = "web: waiting for the guest to let you in (Permission denied (publickey,password))"
		g.onTalk = func(said string) {
			if strings.Contains(said, waitsForKey) {
				g.onTalk = nil
				g.admit()
			}
		}
		if code, out, said := g.ssh(login...); code != 0 || out != "in\n" || !strings.Contains(said, waitsForKey) || strings.Contains(said, "please try again") {
			t.Errorf("a key that a server of passwords takes later: exit code %d, %q, %s", code, out, said)
		}
		os.Remove(g.dir + "/authorized")
		if code, _, said := g.ssh(append([]string{"--timeout", "2s"}, login...)...); code != 255 || !strings.Contains(said, waitsForKey) || !strings.Contains(said, "please try again") {
			t.Errorf("ssh asks for a password at the end: exit code %d, %s", code, said)
		}
		g.serve("no")
		lab.Sh(t, "rm -rf "+g.stateDir()+"/known_hosts.d")
		g.vm.change(func(s *control.State) { s.Started = time.Now().Add(-sshclient.BootLimit) })
		refused("a guest that booted", login...)
		begin := time.Now()
		g.vm.change(func(s *control.State) { s.Started = time.Now() })
		if code, _, said := g.ssh(append([]string{"--timeout", "2s"}, login...)...); code != 255 || !strings.Contains(said, waits) || !strings.Contains(said, "root@"+guestAddress+": Permission denied") {
			t.Errorf("until the time is over: exit code %d, %s", code, said)
		}
		if took := time.Since(begin); took > 30*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// A host key is known as long as the disk that it is on: another one on the same disk is
// refused, and one on another disk accepted.
func TestSSHHostKeysLiveOnTheDisk(t *testing.T) {
	withSSHGuest(t, func(g *sshGuest) {
		g.admit()
		login := []string{"-i", g.key, "root@web", "echo", "in"}
		g.opens(login...)
		g.serve("no")
		code, _, said := g.ssh(login...)
		if code != 255 || !strings.Contains(said, "REMOTE HOST IDENTIFICATION HAS CHANGED") || !strings.Contains(said, "hint: the disk of VM \"web\" is the one") || !strings.Contains(said, "rm "+g.stateDir()) {
			t.Errorf("the same disk: exit code %d, %s", code, said)
		}
		g.vm.change(func(s *control.State) { s.Disk = "of the run of today" })
		if out := g.opens(login...); out != "in\n" {
			t.Errorf("a new disk: %q", out)
		}
	})
}

// scp, sftp and rsync get to the VM in the ways that the manual shows.
func TestCopiesOverSSH(t *testing.T) {
	withSSHGuest(t, func(g *sshGuest) {
		lab.Require(t, lab.Program("scp"), lab.Program("sftp"), lab.Program("rsync"))
		g.admit()
		file := g.write("file", "content")
		bin := filepath.Join(g.dir, "bin")
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		lab.Sh(t, "mkdir "+bin+"; printf '#!/bin/sh\\nexec "+exe+" \"$@\"\\n' > "+bin+"/qnet; printf '#!/bin/sh\\nexec qnet ssh -i "+g.key+" \"$@\"\\n' > "+bin+"/qnet-ssh; chmod +x "+bin+"/*")
		for name, command := range map[string]string{
			"scp":       "scp -q $(qnet ssh --print-options -i " + g.key + " web) " + file + " root@web:" + g.dir + "/scp",
			"scp-S":     "scp -q -S " + bin + "/qnet-ssh " + file + " root@web:" + g.dir + "/scp-S",
			"scp-O":     "scp -q -O -S " + bin + "/qnet-ssh " + file + " root@web:" + g.dir + "/scp-O",
			"sftp":      "echo put " + file + " " + g.dir + "/sftp | sftp -q -b - $(qnet ssh --print-options -i " + g.key + " web) root@web",
			"rsync":     "rsync -e 'qnet ssh -i " + g.key + "' " + file + " root@web:" + g.dir + "/rsync",
			"rsync-get": "rsync -e 'qnet ssh -i " + g.key + "' root@web:" + file + " " + g.dir + "/rsync-get",
		} {
			cmd := exec.Command("sh", "-c", command)
			cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "QNET_RUN_DIR="+g.runDir(), "QNET_STATE_DIR="+g.stateDir())
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%s: %v\n%s", command, err, out)
			}
			if b, err := os.ReadFile(g.dir + "/" + name); err != nil || string(b) != "content" {
				t.Errorf("%s: %q, %v\n%s", name, b, err, out)
			}
		}
	})
}
