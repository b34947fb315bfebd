package sshkey

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
)

// OpenSSH reads both halves of a key of each type, and finds that they belong together.
func TestOpenSSHReadsKeys(t *testing.T) {
	lab.Require(t, lab.Program("ssh-keygen"))
	for _, kind := range []string{Ed25519, ECDSA} {
		path := filepath.Join(t.TempDir(), "keys", "key")
		pair, err := Ensure(path, kind, "me@host")
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("ssh-keygen", "-y", "-f", path).Output()
		if err != nil || !Same(strings.TrimSpace(string(out)), pair.Public) {
			t.Errorf("%s: %v, got %s, want %s", kind, err, out, pair.Public)
		}
		b, err := os.ReadFile(path + ".pub")
		if err != nil || string(b) != pair.Public+"\n" || !strings.HasSuffix(pair.Public, " me@host") {
			t.Errorf("%s: %v, %q", kind, err, b)
		}
		if again, err := Ensure(path, kind, "me@host"); err != nil || again != pair {
			t.Errorf("%s: again %v, %v", kind, again, err)
		}
		for p, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700 | os.ModeDir} {
			if info, err := os.Stat(p); err != nil || info.Mode() != want {
				t.Errorf("%s: %v, %v", p, info.Mode(), err)
			}
		}
	}
}

// Many who make the same key at once get one.
func TestEnsureAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	got := make([]Pair, 20)
	var all sync.WaitGroup
	for i := range got {
		all.Go(func() { got[i], _ = Ensure(path, Ed25519, "") })
	}
	all.Wait()
	if got[0].Public == "" || slices.ContainsFunc(got, func(p Pair) bool { return p != got[0] }) {
		t.Errorf("got %v", got)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	if err != nil || len(left) != 2 {
		t.Errorf("files %q, %v", left, err)
	}
}

// A key that is damaged is said to be, and is not replaced.
func TestEnsureRefuses(t *testing.T) {
	pair, err := New(Ed25519, "")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty": "", "no-key": "hello", "cut": pair.Private[:len(pair.Private)/2],
		"other": "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
	} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Ensure(path, Ed25519, ""); err == nil || !strings.Contains(err.Error(), "remove it") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestParse(t *testing.T) {
	pair, err := New(Ed25519, "me")
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(pair.Public)
	if got, err := Parse("  " + words[0] + "\t" + words[1] + "   a  b \n"); err != nil || got != words[0]+" "+words[1]+" a b" {
		t.Errorf("got %q, %v", got, err)
	}
	for name, text := range map[string]string{
		"private": pair.Private, "empty": "", "one-word": "ssh-ed25519", "no-base64": "ssh-ed25519 ???", "other-type": "ssh-rsa " + words[1],
		"options": `command="x" ` + pair.Public, "two": pair.Public + "\n" + pair.Public, "escape": pair.Public + "\x1b[2J", "host-key": "web " + pair.Public,
	} {
		got, err := Parse(text)
		if err == nil {
			t.Errorf("%s: got %q", name, got)
		} else if strings.Contains(err.Error(), "b3BlbnNzaC1rZXk") {
			t.Errorf("%s: the error has the private key: %v", name, err)
		}
	}
}

func TestFromHome(t *testing.T) {
	home := filepath.Join(t.TempDir(), "a[b]*")
	dir := filepath.Join(home, ".ssh")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, name := range []string{"id_a", "id_b"} {
		pair, err := New(Ed25519, name)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, pair.Public)
		for file, text := range map[string]string{name: pair.Private, name + ".pub": "# mine\n" + pair.Public + "\n", "copy-" + name + ".pub": pair.Public + "2\n"} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "other.pub"), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := FromHome(home)
	if len(got) != 2 || !Same(got[0], want[0]) || !Same(got[1], want[1]) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := FromFile(filepath.Join(dir, "id_a")); err == nil || !strings.Contains(err.Error(), "private key; name its .pub") {
		t.Errorf("a private key: %v", err)
	}
	if got := FromHome(""); got != nil {
		t.Errorf("got %q", got)
	}
}

// A real agent says which keys it has.
func TestFromAgent(t *testing.T) {
	lab.Require(t, lab.Program("ssh-agent"), lab.Program("ssh-add"))
	dir, err := os.MkdirTemp("", "agent") //nolint:usetesting // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	pair, err := Ensure(filepath.Join(dir, "key"), Ed25519, "mine")
	if err != nil {
		t.Fatal(err)
	}
	agent := exec.Command("ssh-agent", "-D", "-a", socket)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		agent.Process.Kill()
		agent.Wait()
	})
	add := exec.Command("sh", "-c", `until ssh-add "$1"; do [ -S "$SSH_AUTH_SOCK" ] || sleep 0.1; done`, "sh", filepath.Join(dir, "key"))
	add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	keys, err := FromAgent(socket)
	if err != nil || len(keys) != 1 || !Same(keys[0], pair.Public) {
		t.Errorf("got %q, %v, want %q", keys, err, pair.Public)
	}
}

// An agent that answers nonsense is an error, and never a panic.
func TestBadAgents(t *testing.T) {
	for name, answer := range map[string]string{
		"empty": "", "huge": "\xff\xff\xff\xff", "failure": "\x00\x00\x00\x01\x05", "no-list": "\x00\x00\x00\x05\x0c\x00\x00\x00\x01",
		"many": "\x00\x00\x00\x05\x0c\xff\xff\xff\xff", "cut": "\x00\x00\x00\x0a\x0c\x00\x00\x00\x01\xff\xff\xff\xffa",
	} {
		socket := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		var served sync.WaitGroup
		served.Go(func() {
			c, err := l.Accept()
			if err == nil {
				c.Write([]byte(answer))
				c.Close()
			}
		})
		if keys, err := FromAgent(socket); err == nil {
			t.Errorf("%s: got %q", name, keys)
		}
		l.Close()
		served.Wait()
	}
}
