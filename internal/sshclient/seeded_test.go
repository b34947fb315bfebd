package sshclient

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func seeded(t *testing.T, args ...string) Session {
	t.Helper()
	r, err := Parse(args, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return Session{
		Request: r, Address: netip.MustParseAddr("10.0.0.9"), StateDir: t.TempDir(),
		Seeded: Seeded{User: "me", Identity: "/c/id", HostKeys: []string{"ssh-ed25519 AAAA web", "ecdsa-sha2-nistp256 BBBB"}},
	}
}

// A guest that qnet set up is logged in to as its account, by qnet's key, and shows the
// host keys that qnet gave it; the user's own words win.
func TestSeededArguments(t *testing.T) {
	const known = "-o HostName=10.0.0.9 -o HostKeyAlias=web.qnet -o UserKnownHostsFile=/k -o StrictHostKeyChecking=yes"
	const own = " -o IdentitiesOnly=yes -o IdentityFile=/c/id"
	for line, want := range map[string]string{
		"web":                       known + own + " -l me -- 10.0.0.9",
		"me@web ls":                 known + own + " -l me -- 10.0.0.9 ls",
		"root@web":                  known + " -l root -- 10.0.0.9",
		"-o User=root web":          "-o User=root " + known + " -- 10.0.0.9",
		"-i k web":                  "-i k " + known + " -o IdentityFile=/c/id -l me -- 10.0.0.9",
		"-o IdentityFile=k -v web ": "-o IdentityFile=k -v " + known + " -o IdentityFile=/c/id -l me -- 10.0.0.9",
	} {
		if got := strings.Join(seeded(t, strings.Fields(line)...).Arguments("/k"), " "); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", line, got, want)
		}
	}
	s := seeded(t, "web")
	s.Copy = &Copy{Sources: []string{"a:b", "/c"}, Target: "/tmp/", ToVM: true, Recursive: true}
	if got, want := strings.Join(s.Arguments("/k"), " "), known+own+" -o User=me -r -- ./a:b /c web.qnet:/tmp/"; got != want {
		t.Errorf("copy:\ngot  %s\nwant %s", got, want)
	}
}

// The VM's file of host keys has those that qnet gave the guest, and no other, whatever
// was in it.
func TestSeededHostKeys(t *testing.T) {
	s := seeded(t, "web")
	path, err := s.Prepare(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	want := "# host keys that qnet gave the guest\nweb.qnet ssh-ed25519 AAAA web\nweb.qnet ecdsa-sha2-nistp256 BBBB\n"
	for range 2 {
		if b, err := os.ReadFile(path); err != nil || string(b) != want {
			t.Errorf("%v, got %q", err, b)
		}
		if err := os.WriteFile(path, []byte("web.qnet ssh-ed25519 CCCC\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Prepare(nil, ""); err != nil {
			t.Fatal(err)
		}
	}
	s.Seeded = Seeded{}
	if _, err := s.Prepare(nil, ""); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || strings.Contains(string(b), "AAAA") {
		t.Errorf("a guest that was told nothing: %v, %q", err, b)
	}
}

func TestParseCopy(t *testing.T) {
	for line, want := range map[string]string{
		"f web:/tmp":         "web  true [f] /tmp",
		"a b me@web:":        "web me true [a b] ",
		"web:/a .":           "web  false [/a] .",
		"web:/a web:b:c dir": "web  false [/a b:c] dir",
		"./x:y web:z":        "web  true [./x:y] z",
		"C:/x web:z":         "web  true [C:/x] z",
		"a:x me@b:y":         "b me true [x] y a ",
		"me@a:x me@a:z b:":   "b  true [x z]  a me",
	} {
		c, err := ParseCopy(strings.Fields(line))
		got := strings.Join([]string{c.VM, c.Login, map[bool]string{true: "true", false: "false"}[c.ToVM], "[" + strings.Join(c.Sources, " ") + "]", c.Target}, " ")
		if c.FromVM != "" {
			got += " " + c.FromVM + " " + c.FromLogin
		}
		if err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", line, got, err, want)
		}
	}
	for line, want := range map[string]string{
		"": "needs a source", "f": "needs a source", "a b": "neither", "a:x b:y .": "several places", "a:x b .": "neither", "me@a:x a:y .": "several places",
		"a:x b c:y": "several places", "a#b@c:x y": "no name of an account", "x a:y b:z": "several places",
	} {
		if _, err := ParseCopy(strings.Fields(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", line, err, want)
		}
	}
}

// The answer of a guest is bounded, and cannot drive a terminal. Its exit code differs from
// that of ssh itself.
func TestAsk(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "ssh")
	for name, c := range map[string]struct {
		script string
		want   Answer
	}{
		"done":    {"echo 'status: done'", Answer{Text: "status: done"}},
		"failed":  {"printf 'a\\033[2J\\r\\nb\\n'; exit 1", Answer{Code: 1, Text: `a\x1b[2J` + "\nb"}},
		"refused": {"echo 'me@10.0.0.9: Permission denied (publickey).' >&2; exit 255", Answer{Refused: "Permission denied (publickey)"}},
		"key":     {"echo 'WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!' >&2; exit 255", Answer{Refused: "it shows another host key than the one that is known"}},
		"other":   {"echo one >&2; printf 'Bad\\033 thing' >&2; exit 255", Answer{Refused: `Bad\x1b thing`}},
		"endless": {"head -c 100000 /dev/zero | tr '\\0' x", Answer{Text: strings.Repeat("x", maxAnswer)}},
	} {
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"+c.script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		got, err := Client{Program: program}.Ask(t.Context(), seeded(t, "web"))
		if err != nil || got != c.want {
			t.Errorf("%s: got %.100q, %v of %d bytes, %v", name, got.Text, got.Code, len(got.Text), err)
		}
	}
	if _, err := (Client{Program: dir + "/none"}).Ask(t.Context(), seeded(t, "web")); err == nil {
		t.Error("without ssh: no error")
	}
}

func TestParseExec(t *testing.T) {
	for line, want := range map[string]string{
		"web -- ls -l":                   "web  -T 1m0s [ls -l]",
		"web ls -l":                      "web  -T 1m0s [ls -l]",
		"-t me@web ls":                   "web me -tt 1m0s [ls]",
		"--tty --login=me web -- ls -t":  "web me -tt 1m0s [ls -t]",
		"-l me --timeout 5s web.qnet ls": "web me -T 5s [ls]",
		"-lme web -- -- x":               "web me -T 1m0s [-- x]",
		"web echo *;x":                   "web  -T 1m0s [echo '*;x']",
	} {
		r, err := ParseExec(strings.Fields(line), time.Minute)
		got := strings.Join([]string{r.VM, r.Login, strings.Join(r.Options, " "), r.Timeout.String(), "[" + strings.Join(r.Command, "|") + "]"}, " ")
		if err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", line, got, err, want)
		}
	}
	for line, want := range map[string]string{
		"": "exec needs NAME", "web": "exec needs a command", "web --": "exec needs a command", "-x web ls": "unknown option -x", "--timeout soon web ls": "exec: --timeout", "-l": "needs a value", "-h": "help",
	} {
		if _, err := ParseExec(strings.Fields(line), time.Minute); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "ssh:") {
			t.Errorf("%s: got %v, want %q", line, err, want)
		}
	}
}
