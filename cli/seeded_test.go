package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/sshclient"
)

// seeds makes the guest one that qnet set up: root is its account.
func (g *sshGuest) seeds() {
	g.Helper()
	b, err := os.ReadFile(g.dir + "/host.pub")
	if err != nil {
		g.Fatal(err)
	}
	g.vm.change(func(s *control.State) {
		s.Guest = &control.Guest{User: "root", Identity: g.key, HostKeys: []string{strings.TrimSpace(string(b))}}
	})
}

// call runs a command in the way of g.ssh.
func (g *sshGuest) call(args ...string) (code int, stdout, stderr string) {
	g.Helper()
	var out strings.Builder
	said := &talk{g: g}
	code = Main(g.Context(), args, g.env(&out, said))
	return code, out.String(), strings.TrimPrefix(said.String(), "web: waiting for port 22; address "+guestAddress+"\n") // the server is just starting
}

// A guest that qnet set up needs neither a name nor a key, and no word about its host key.
// Another machine in its place is refused.
func TestSSHToASeededGuest(t *testing.T) {
	withSSHGuest(t, func(g *sshGuest) {
		g.admit()
		g.seeds()
		if code, out, said := g.call("ssh", "web", "id -un"); code != 0 || out != "root\n" || said != "" {
			t.Errorf("exit code %d, %q, %q", code, out, said)
		}
		os.Remove(g.dir + "/authorized")
		g.vm.change(func(s *control.State) { s.Started = time.Now().Add(-sshclient.BootLimit) })
		if code, _, said := g.call("ssh", "web", "id -un"); code != 255 || !strings.Contains(said, "hint: the guest has no account root that takes qnet's key") {
			t.Errorf("a guest that took no key: exit code %d, %s", code, said)
		}
		g.serve("no") // with another host key
		code, _, said := g.ssh("web", "id -un")
		if code != 255 || !strings.Contains(said, "REMOTE HOST IDENTIFICATION HAS CHANGED") || !strings.Contains(said, "hint: qnet gave the guest other host keys") {
			t.Errorf("another machine: exit code %d, %s", code, said)
		}
	})
}

// A command gets its words as they are and its exit code is qnet's. Its input and output
// are qnet's.
func TestExec(t *testing.T) {
	withSSHGuest(t, func(g *sshGuest) {
		g.admit()
		g.seeds()
		for _, c := range []struct {
			args []string
			code int
			out  string
		}{
			{[]string{"exec", "web", "--", "printf", "%s|", "a b", "$HOME", "it's", "", "*"}, 0, "a b|$HOME|it's||*|"},
			{[]string{"exec", "web", "sh", "-c", "echo out; exit 7"}, 7, "out\n"},
			{[]string{"exec", "root@web", "--", "false"}, 1, ""},
			{[]string{"exec", "-t", "web", "tty"}, 0, "/dev/pts/"},
			{[]string{"exec", "web", "tty"}, 1, "not a tty\n"},
		} {
			code, out, said := g.call(c.args...)
			if code != c.code || !strings.HasPrefix(out, c.out) {
				t.Errorf("%q: exit code %d, %q, %s", c.args, code, out, said)
			}
		}
		for _, args := range [][]string{{"exec"}, {"exec", "web"}, {"exec", "-x", "web", "ls"}, {"exec", "no-such", "ls"}} {
			code, _, said := g.call(args...)
			if want := map[bool]int{true: 1, false: 2}[args[len(args)-1] == "ls" && args[1] == "no-such"]; code != want {
				t.Errorf("%q: exit code %d, want %d, %s", args, code, want, said)
			}
		}
	})
}

// Files get to the guest and back, whatever their names are.
func TestCopy(t *testing.T) {
	withSSHGuest(t, func(g *sshGuest) {
		lab.Require(t, lab.Program("scp"))
		g.admit()
		g.seeds()
		from := g.dir + "/a b:c"
		if err := os.WriteFile(from, []byte("content"), 0o644); err != nil {
			t.Fatal(err)
		}
		lab.Sh(t, "mkdir "+g.dir+"/tree; echo leaf > "+g.dir+"/tree/leaf")
		for _, args := range [][]string{
			{"cp", from, "web:" + g.dir + "/to"},
			{"cp", "web:" + g.dir + "/to", g.dir + "/back"},
			{"cp", "-r", g.dir + "/tree", "root@web:" + g.dir + "/tree2"},
			{"cp", "web:" + g.dir + "/tree2/leaf", "-p", "web:" + g.dir + "/back", g.dir + "/tree"},
		} {
			if code, _, said := g.call(args...); code != 0 || said != "" {
				t.Errorf("%q: exit code %d, %s", args, code, said)
			}
		}
		lab.Sh(t, "cd "+g.dir+"; cmp to back; cmp back tree/back; cmp tree/leaf tree2/leaf")
		for _, args := range [][]string{{"cp", "a", "b"}, {"cp", "web:a", "b", "web:c"}, {"cp", "a"}} {
			if code, _, said := g.call(args...); code != 2 {
				t.Errorf("%q: exit code %d, %s", args, code, said)
			}
		}
		if code, _, said := g.call("cp", "web:/no/such", g.dir); code != 1 || !strings.Contains(said, "No such file") {
			t.Errorf("no such file: exit code %d, %s", code, said)
		}
	})
}

// Files get from one guest to another, each with its own host key, and the host keeps nothing.
func TestCopyBetweenGuests(t *testing.T) {
	withSSHGuest(t, func(g *sshGuest) {
		lab.Require(t, lab.Program("scp"))
		g.admit()
		g.seeds()
		const address = "127.0.0.10"
		db := &sshGuest{caller: &caller{t, g.dir + "/db"}, key: g.key, address: address}
		lab.Sh(t, "mkdir -p "+db.dir+" "+g.dir+"/tree; echo from > "+db.dir+"/a; echo leaf > '"+g.dir+"/tree/a leaf'")
		db.serve("no")
		db.admit()
		b, err := os.ReadFile(db.dir + "/host.pub")
		if err != nil {
			t.Fatal(err)
		}
		state := web()
		state.Name, state.NICs[0].Seen.Addresses, state.NICs[0].Address = "db", addresses(address), addresses(address)[0]
		state.Disk, state.Started = "inode 2", time.Now()
		state.Guest = &control.Guest{User: "root", Identity: g.key, HostKeys: []string{strings.TrimSpace(string(b))}}
		g.play(state, nil)
		for _, args := range [][]string{
			{"cp", "web:" + g.dir + "/tree/a leaf", "db:" + db.dir + "/there"},
			{"cp", "-r", "db:" + db.dir, "web:" + g.dir + "/whole"},
		} {
			if code, _, said := g.call(args...); code != 0 || strings.Contains(strings.ReplaceAll(said, "waiting for port", ""), "waiting") {
				t.Errorf("%q: exit code %d, %s", args, code, said)
			}
		}
		lab.Sh(t, fmt.Sprintf("cmp '%[1]s/tree/a leaf' '%[2]s/there'; cmp '%[2]s/a' %[1]s/whole/a", g.dir, db.dir))
		if left, _ := filepath.Glob(g.stateDir() + "/known_hosts.d/.cp-*"); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		db.serve("no") // with another host key
		if code, _, said := g.call("cp", "web:"+g.dir+"/tree/a leaf", "db:/tmp/"); code == 0 || !strings.Contains(said, "REMOTE HOST IDENTIFICATION HAS CHANGED") {
			t.Errorf("another machine: exit code %d, %s", code, said)
		}
	})
}

// A wait for a login goes on while the guest refuses it, and says why at its end. The end
// of the first boot is what cloud-init says of it.
func TestWaitForLogin(t *testing.T) {
	withSSHGuest(t, func(g *sshGuest) {
		g.seeds()
		const waits = "web: waiting for a login by SSH; Permission denied (publickey)"
		code, _, said := g.call("wait", "--for", "ssh", "--timeout", "3s", "web")
		if code != 1 || !strings.Contains(said, waits) || !strings.Contains(said, "last stage: port 22 answers; ssh: Permission denied (publickey)") {
			t.Errorf("refused: exit code %d, %s", code, said)
		}
		g.onTalk = func(said string) {
			if strings.Contains(said, waits) {
				g.onTalk = nil
				g.admit()
			}
		}
		if code, out, said := g.call("wait", "--for", "ssh", "web"); code != 0 || out != guestAddress+"\n" {
			t.Errorf("exit code %d, %q, %s", code, out, said)
		}
		// A server that comes late is waited for by a look at its port.
		g.stop()
		if code, _, said := g.call("wait", "--for", "ssh", "--timeout", "5s", "web"); code != 1 || !strings.Contains(said, "nothing listens on port 22 of "+guestAddress) {
			t.Errorf("no server: exit code %d, %s", code, said)
		}
		g.onTalk = func(said string) {
			if strings.Contains(said, "web: waiting for a login by SSH; address") {
				g.onTalk = nil
				g.again()
			}
		}
		if code, out, said := g.call("wait", "--for", "ssh", "web"); code != 0 || out != guestAddress+"\n" {
			t.Errorf("late: exit code %d, %q, %s", code, out, said)
		}
		// What a guest's cloud-init may say: the server runs scripts from the test's own folder.
		for script, c := range map[string]struct {
			code int
			want string
		}{
			"echo 'status: done'": {0, ""},
			"echo 'status: error'; echo 'detail: users failed'; exit 1":                                             {1, "the first boot of VM \"web\" failed: status: error; detail: users failed"},
			`printf "status: error\ndetail:\n('locale', ProcessExecutionError(\"Unexpected error\"))\n"; exit 1`:    {0, "warning: the first boot of VM \"web\" is done, but the image's own settings did not all work: status: error; detail:; ('locale', "},
			`printf "detail:\n('locale', RuntimeError())\n('scripts_user', RuntimeError('Runparts: 1'))\n"; exit 1`: {1, "the first boot of VM \"web\" failed: detail:; ('locale', RuntimeError()); ('scripts_user', "},
			"echo 'status: degraded'; exit 2": {0, "warning: the first boot of VM \"web\" is done, but not everything went well: status: degraded"},
		} {
			g.boots(script)
			code, _, said := g.call("wait", "--for", "boot", "--timeout", "20s", "web")
			if code != c.code || !strings.Contains(said, c.want) {
				t.Errorf("%s: exit code %d, %s", script, code, said)
			}
		}
		g.boots("sleep 60")
		begin := time.Now()
		if code, _, said := g.call("wait", "--for", "boot", "--timeout", "3s", "web"); code != 1 || !strings.Contains(said, "last stage: logged in") {
			t.Errorf("exit code %d, %s", code, said)
		}
		if took := time.Since(begin); took > 20*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// boots makes a guest whose cloud-init is a script.
func (g *sshGuest) boots(script string) {
	g.Helper()
	lab.Sh(g.T, "mkdir -p "+g.dir+"/bin; cat > "+g.dir+"/bin/cloud-init <<'EOF'\n#!/bin/sh\n"+script+"\nEOF\nchmod +x "+g.dir+"/bin/cloud-init")
	lab.Sh(g.T, `sed -i '/^SetEnv/d' `+g.config+`; echo "SetEnv PATH=`+g.dir+`/bin:/usr/bin:/bin" >> `+g.config)
	g.server.Process.Kill()
	g.server.Wait()
	g.again()
}
