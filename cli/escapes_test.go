package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/doctor"
	"github.com/qnet-vm/qnet/internal/doctor/probe"
	"github.com/qnet-vm/qnet/netsetup/dhcp"
	"github.com/qnet-vm/qnet/netsetup/keeper"
)

// evil is what another person may put into a text that qnet prints: a title (OSC), BEL, a screen
// clear (CSI), the same with C1 controls as UTF-8 and as bytes, a reversal of direction, and an
// end of line with a line of his own behind it. A file may have the name.
const evil = "a\x1b]0;t\x07\x1b[2J\u009b2J\x9b2J\u202eb\r\nforged\x7f"

// harmless checks that nothing in an output drives a terminal or makes a line of its own.
func harmless(t testing.TB, what, out string) {
	t.Helper()
	odd := func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' && r != '\t' }
	if !utf8.ValidString(out) || strings.ContainsFunc(out, odd) || strings.Contains(out, "\nforged") || strings.HasPrefix(out, "forged") {
		t.Errorf("%s: %q", what, out)
	}
}

// each calls f for each command with its words, those below others too.
func each(list []*cli.Command, above []string, f func(words []string, c *cli.Command)) {
	for _, c := range list {
		words := append(append([]string{}, above...), c.Name)
		f(words, c)
		each(c.Subcommands, words, f)
	}
}

// hostileArguments are all commands with hostile text for an operand, and for each flag's value.
func hostileArguments() (all [][]string) {
	a := &app{Call: call.Call{Env: call.Env{Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}}}}
	each(a.command().Commands, nil, func(words []string, c *cli.Command) {
		with := func(more ...string) { all = append(all, append(append([]string{}, words...), more...)) }
		with(evil)
		with(evil, evil)
		with("vm", evil)
		with(evil, "vm", evil)
		with("--" + evil)
		with(evil+".toml", "--json")
		for _, f := range c.Flags {
			with("--"+f.Names()[0]+"="+evil, "vm")
			with("--"+f.Names()[0]+"="+evil, "vm", "tag")
		}
	})
	return append(all, []string{evil}, []string{"--run-dir", "/" + evil, "ps"}, []string{"--state-dir", "/dev/null/" + evil, "plan", "x.toml"})
}

// Whatever text a command is given, none of it drives the terminal.
func TestHostileArguments(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	vars := map[string]string{"QNET_RUN_DIR": filepath.Join(dir, "run"), "QNET_STATE_DIR": filepath.Join(dir, "state"), "HOME": dir, "PATH": "/nowhere", "TERM": "xterm"}
	tried := 0
	for _, args := range hostileArguments() {
		if args[0] == "gc" || args[0] == "doctor" { // they look at the host; below they meet hostile names
			continue
		}
		var out, errout bytes.Buffer
		Main(context.Background(), args, call.Env{Stdout: &out, Stderr: &errout, Getenv: func(name string) string { return vars[name] }})
		harmless(t, fmt.Sprintf("qnet %q", args), out.String())
		harmless(t, fmt.Sprintf("qnet %q says", args), errout.String())
		tried++
	}
	t.Logf("%d command lines", tried)
}

// A profile of another person may lie anywhere and name any file: what qnet prints of a VM's life
// shows the names as text.
func TestHostileNames(t *testing.T) {
	inLab(t, func(l *testHost) {
		home := filepath.Join(l.dir, evil)
		if err := os.Mkdir(home, 0o755); err != nil {
			t.Fatal(err)
		}
		profile := filepath.Join(home, evil+".toml")
		text := "name = \"vm\"\n" + idle + "[[disk]]\nfile = \"d.img\"\nformat = \"raw\"\n[[nic]]\nmode = \"nat\"\nnetwork = \"dev\"\n"
		for path, b := range map[string]string{profile: text, filepath.Join(home, "d.img"): strings.Repeat("\x00", 1<<20), filepath.Join(home, "bad.toml"): "name = 7\n[\"" + strings.ReplaceAll(evil, "\n", "\\n") + "\"]\n"} {
			if err := os.WriteFile(path, []byte(b), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		l.env = append(l.env, "HOME="+home, "QNET_STATE_DIR="+home)
		life := func(fine bool, args ...string) {
			t.Helper()
			code, out, errout := l.qnet(args...)
			if fine && code != 0 {
				t.Errorf("qnet %q: exit code %d: %s", args, code, errout)
			}
			harmless(t, fmt.Sprintf("qnet %q", args), out)
			harmless(t, fmt.Sprintf("qnet %q says", args), errout)
		}
		life(true, "check", profile)
		life(false, "check", filepath.Join(home, "bad.toml"))
		life(true, "plan", profile)
		life(true, "plan", "--json", profile)
		life(true, "run", "-v", "-d", profile)
		life(false, "run", "-d", profile) // it runs already
		for _, args := range []string{"ps", "ps --json", "ps --security", "ls", "ls --json", "net", "net --json", "net --security", "ip vm", "hosts", "image ls", "image ls --json", "image inspect debian-12", "snapshot ls vm", "view --print vm"} {
			life(false, strings.Fields(args)...)
		}
		life(false, "doctor", profile)
		life(false, "doctor", "--json", profile)
		life(true, "stop", "--force", "vm")
		life(false, "start", "vm", "--sandbox", evil)
		life(true, "ls")
		life(false, "snapshot", "ls", "vm")
		life(true, "rm", "vm")
		os.RemoveAll(home)
	})
}

// What a keeper, a clerk that was taken over, or a program of the host says comes as text into
// tables, notes and findings.
func TestHostileWords(t *testing.T) {
	var out, errout bytes.Buffer
	a := &app{Call: call.Call{Env: call.Env{Stdout: &out, Stderr: &errout}}}
	line := strings.ReplaceAll(evil, "\n", " ") // notes and errors may have several lines: who makes them quotes what others chose
	infos := []keeper.Info{{
		Name: evil, Bridge: evil, Uplinks: []string{evil}, Notes: []string{line}, VMs: []keeper.VMInfo{{Name: evil}},
		Leases: []dhcp.Lease{{MAC: evil, Host: evil}}, Clerk: &keeper.Confinement{Layers: []string{evil}, Missing: []string{evil}},
	}}
	err := errors.Join(
		a.Table("NAME MODE BRIDGE PREFIX UPLINKS KEEPER VMS", func(row call.Row) { networkRows(row, infos) }),
		a.Table("NAME CONFINED MISSING", func(row call.Row) { clerkRows(row, infos) }),
		a.leases(infos), a.JSON(infos),
		doctor.Report{Findings: []doctor.Finding{{Check: "names", Evidence: evil, Remedy: evil}}}.WriteText(&out),
		probe.Report{Network: evil, Bridge: evil, Steps: []probe.Step{{Name: "lease", Detail: evil, Cause: evil}}}.WriteText(&out),
	)
	if err != nil {
		t.Fatal(err)
	}
	a.report(errors.New("do something: " + line))
	a.report(&os.PathError{Op: "open", Path: evil, Err: os.ErrNotExist})
	harmless(t, "tables", out.String())
	harmless(t, "words", errout.String())
}
