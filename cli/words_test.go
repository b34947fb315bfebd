package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/cli/completion"
	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/doctor"
	"github.com/qnet-vm/qnet/internal/doctor/probe"
	"github.com/qnet-vm/qnet/internal/firstboot"
	"github.com/qnet-vm/qnet/internal/hardware"
	"github.com/qnet-vm/qnet/internal/place"
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/internal/supervisor"
	"github.com/qnet-vm/qnet/netsetup/dhcp"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu"
	"github.com/qnet-vm/qnet/qemu/machine"
	"github.com/qnet-vm/qnet/qemu/program"
)

// Each kind of error has its exit code and says what to do next.
func TestErrors(t *testing.T) {
	file := &hardware.FileError{What: "disk", Path: "/d", Err: fs.ErrPermission}
	undo := &control.UndoError{VM: "a", Err: fmt.Errorf("leave: %w", host.ErrNoPermission)}
	for _, c := range []struct {
		err  error
		code int
		hint string // part of it, "" for none
	}{
		{nil, exitOK, ""},
		{errors.New("any"), exitFailure, ""},
		{&call.Usage{Text: "bad flag"}, exitUsage, ""},
		{profiles.Errors{}, exitUsage, ""},
		{&machine.ConfigError{Object: "disk"}, exitUsage, ""},
		{&firstboot.Mistake{Key: "guest.user_data", Err: errors.New("empty")}, exitUsage, ""},
		{file, exitUsage, "your own rights"},
		{&hardware.FileError{What: "disk", Path: "/d", Err: fs.ErrNotExist}, exitUsage, ""},
		{rundir.ErrPathTooLong, exitUsage, "shorter --run-dir"},
		{host.ErrNoPermission, exitIncapable, "sudo"},
		{host.ErrNoSysctls, exitIncapable, "--privileged"},
		{fmt.Errorf("set sysctl: %w: %w", host.ErrNoSysctls, unix.EROFS), exitIncapable, "--privileged"},
		{fmt.Errorf("write salt: %w", unix.ENOSPC), exitFailure, "df"},
		{fmt.Errorf("write salt: %w", unix.EDQUOT), exitFailure, "quota"},
		{fmt.Errorf("make run directory: %w", unix.EROFS), exitFailure, "--run-dir"},
		{fmt.Errorf("add bridge: %w", unix.ENOMEM), exitFailure, "memory"},
		{fmt.Errorf("open tap: %w", unix.EMFILE), exitFailure, "ulimit -n"},
		{fmt.Errorf("open tap: %w", unix.ENFILE), exitFailure, "fs.file-max"},
		{fmt.Errorf("start keeper: %w", unix.EAGAIN), exitFailure, "ulimit -u"},
		{&qemu.ExitError{Status: qemu.ExitStatus{Stderr: "qemu_thread_create: Resource temporarily unavailable"}}, exitQEMU, "ulimit -u"},
		{&hardware.FileError{What: "disk", Path: "/d", Err: unix.EROFS}, exitUsage, ""},
		{keeper.ToWire(fmt.Errorf("write journal: %w", unix.ENOSPC)), exitFailure, "df"},
		{keeper.ToWire(host.ErrNoSysctls), exitIncapable, "--privileged"},
		{host.ErrNoTun, exitIncapable, "modprobe tun"},
		{host.ErrUnsupported, exitIncapable, "reboot"},
		{host.ErrNotOurs, exitIncapable, "ip -d link"},
		{host.ErrRefused, exitIncapable, ""},
		{program.ErrNotFound, exitIncapable, "apt install"},
		{program.ErrTooOld, exitIncapable, "7.2"},
		{&qemu.ExitError{}, exitQEMU, ""},
		{supervisor.ErrRunning, exitFailure, "--name"},
		{control.ErrNotRunning, exitFailure, "qnet ps"},
		{control.ErrDied, exitFailure, "qnet gc"},
		{undo, exitFailure, "qnet gc"},
		{errors.Join(supervisor.ErrInterrupted, undo), exitFailure, "qnet gc"},
		{errors.Join(&qemu.ExitError{}, undo), exitQEMU, "qnet gc"},
		{supervisor.ErrInterrupted, exitInterrupted, ""},
		{context.Canceled, exitInterrupted, ""},
		{errors.Join(call.ErrSilent, &call.ExitStatus{Code: 7}), 7, ""},
		{&farError{message{Text: "far", Hint: "go there", Code: exitQEMU}}, exitQEMU, "go there"},
	} {
		wrapped := c.err
		if c.err != nil {
			wrapped = fmt.Errorf("run VM: %w", c.err)
		}
		if got := exitCode(wrapped); got != c.code {
			t.Errorf("%v: exit code %d, want %d", c.err, got, c.code)
		}
		if c.err == nil {
			continue
		}
		m := messageOf(wrapped)
		if !strings.Contains(m.Hint, c.hint) || c.hint == "" && m.Hint != "" || m.Code != c.code {
			t.Errorf("%v: %+v, want a hint with %q", c.err, m, c.hint)
		}
	}
}

// What is printed of an error: its text, the command of the step that failed, a hint.
func TestMessage(t *testing.T) {
	far := keeper.WireError{Text: "add bridge: no memory", Kinds: []string{"unsupported"}, Command: "ip link add qn-dev type bridge"}
	for want, m := range map[string]message{
		"qnet: no":                   {Text: "no"},
		"qnet: no\nhint: yes":        {Text: "no", Hint: "yes"},
		"qnet: no\ncommand: ip link": {Text: "no", Command: "ip link"},
		"qnet: no\ncommand: nft -f - ... (qnet plan shows all of it)\nhint: yes":                                                            {Text: "no", Command: "nft -f -\ntable\n", Hint: "yes"},
		"qnet: join network \"dev\": add bridge: no memory\ncommand: ip link add qn-dev type bridge\nhint: " + hintFor(host.ErrUnsupported): messageOf(fmt.Errorf("join network %q: %w", "dev", &far)),
	} {
		if got := m.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// What the detached process says reaches the user of `qnet run -d`.
func TestHear(t *testing.T) {
	words := func(list ...word) io.Reader {
		var b bytes.Buffer
		for _, w := range list {
			json.NewEncoder(&b).Encode(w)
		}
		return &b
	}
	waits, none := "network", ""
	started := []word{
		{Progress: &waits}, {Step: "ip link add"}, {Note: &keeper.Note{Subject: "VM a", Text: "slow", Remedy: "wait"}}, {Progress: &none},
	}
	for name, c := range map[string]struct {
		last []word
		said string
		code int
	}{
		"runs":    {[]word{{Done: true}}, "", exitOK},
		"fails":   {[]word{{Err: &farError{message{Text: "no", Hint: "h", Command: "c", Code: exitIncapable}}}}, "qnet: no\ncommand: c\nhint: h\n", exitIncapable},
		"is-gone": {nil, "qnet: start supervisor: it ended without a word: EOF\n", exitFailure},
	} {
		var errout bytes.Buffer
		var progress []string
		a := &app{Call: call.Call{Env: call.Env{Stderr: &errout}}}
		code := a.report(a.hear(words(append(slices.Clone(started), c.last...)...), func(what string) { progress = append(progress, what) }))
		if want := "ip link add\nwarning: slow; wait\n" + c.said; errout.String() != want || code != c.code {
			t.Errorf("%s: exit code %d, %q, want %q", name, code, &errout, want)
		}
		if want := []string{"network", "", ""}; !slices.Equal(progress, want) {
			t.Errorf("%s: progress %q, want %q", name, progress, want)
		}
	}
}

// The help of each command has its usage line and its flags, and fits a terminal.
func TestHelp(t *testing.T) {
	u := newCaller(t)
	all := u.must("--help")
	for _, c := range (&app{}).command().Commands {
		if !strings.Contains(all, c.Name) || !strings.Contains(all, c.Usage) {
			t.Errorf("qnet --help lacks %s", c.Name)
		}
		text := u.must(c.Name, "--help")
		for _, want := range append(completion.FlagWords(c.Flags), c.Usage, c.ArgsUsage) {
			if !strings.Contains(text, want) {
				t.Errorf("qnet %s --help lacks %q", c.Name, want)
			}
		}
		for line := range strings.Lines(text) {
			if len(line) > 130 {
				t.Errorf("qnet %s --help: a line of %d characters: %q", c.Name, len(line), line)
			}
		}
		if strings.Contains(text, "--detached") {
			t.Errorf("qnet %s --help shows a hidden flag", c.Name)
		}
	}
	if out := u.must(); out != all {
		t.Errorf("qnet alone prints %q", out)
	}
}

func TestArguments(t *testing.T) {
	u := newCaller(t)
	for _, c := range []struct {
		args  []string
		words string
	}{
		{[]string{"dance"}, `unknown command "dance"; qnet --help lists them`},
		{[]string{"help", "dance"}, `unknown command "dance"`},
		{[]string{"--dance"}, "unknown option --dance; see qnet --help"},
		{[]string{"ps", "--dance"}, "ps: unknown option --dance; see qnet ps --help"},
		{[]string{"ps", "-Z"}, "ps: unknown option -Z"},
		{[]string{"stop", "--timeout", "5", "web"}, `stop: --timeout: got "5", allowed: a time such as 30s or 2m`},
		{[]string{"stop", "--force=maybe", "web"}, `stop: --force takes no value, got "maybe"`},
		{[]string{"run"}, "run needs a PROFILE; see qnet run --help"},
		{[]string{"run", "a.toml", "-m"}, "QEMU arguments go behind --"},
		{[]string{"run", "a.toml", "b.toml"}, `QEMU arguments such as "b.toml" go behind --`},
		{[]string{"run", "a.toml", "--name"}, "option --name needs a value"},
		{[]string{"run", "a.toml", "--name", "UPPER"}, `--name: got "UPPER", allowed: `},
		{[]string{"run", "none.toml"}, "no such file"},
		{[]string{"ssh"}, "ssh needs NAME"},
		{[]string{"ssh", "-Z", "web"}, "unknown option -Z"},
		{[]string{"ssh", "-p", "http", "web"}, `port: got "http"`},
		{[]string{"logs", "a", "b"}, `logs takes no argument "b"`},
		{[]string{"completion", "csh"}, `completion: got "csh", allowed: bash, zsh, fish`},
		{[]string{"doctor", "--target", "a:1"}, "--target is for --probe"},
		{[]string{"doctor", "--probe", "--target", "a"}, "allowed: HOST:PORT"},
		{[]string{"doctor", "--probe", "--target", "192.0.2.1:0"}, "allowed: HOST:PORT"},
		{[]string{"doctor", "--probe", u.write("u.toml", "[[nic]]\nmode = \"user\"\n")}, "no NIC on one of qnet's networks"},
	} {
		u.fails(exitUsage, c.args, c.words)
	}
}

func TestFlagsFirst(t *testing.T) {
	c := (&app{}).command()
	for in, want := range map[string]string{
		"run a.toml -d":                "run -d a.toml",
		"run a.toml --name b -v":       "run --name b -v a.toml",
		"run a.toml --name=b":          "run --name=b a.toml",
		"run a.toml -d -- -m 3 --name": "run -d a.toml -- -m 3 --name",
		"--run-dir d stop a --force":   "--run-dir d stop --force a",
		"logs -":                       "logs -",
		"image rm --help":              "image --help",
		"stop -h a":                    "stop -h",
		"exec a -- ls --help":          "exec a -- ls --help",
		"unknown a -d":                 "unknown a -d",
		"--version":                    "--version",
		"":                             "",
	} {
		got, err := flagsFirst(c, strings.Fields(in))
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: got %q, %v, want %q", in, got, err, want)
		}
	}
}

func TestTables(t *testing.T) {
	var out, errout bytes.Buffer
	a := &app{Call: call.Call{Env: call.Env{Stdout: &out, Stderr: &errout}}}
	infos := []keeper.Info{
		{
			Name: "dev", Mode: profiles.NAT, Bridge: "qn-dev", Prefix: netip.MustParsePrefix("10.0.0.0/24"), Uplinks: []string{"eth0", "wlan0"}, KeeperPID: 7,
			VMs: []keeper.VMInfo{{Name: "a"}, {Name: "b"}}, Notes: []string{"no DNS"}, Leases: []dhcp.Lease{
				{MAC: "02:00:00:00:00:01", Address: netip.MustParseAddr("10.0.0.9"), Host: "a", VM: true, Bound: true},
				{MAC: "02:00:00:00:00:02", Address: netip.MustParseAddr("10.0.0.8"), VM: true},
				{MAC: "02:00:00:00:00:03", Address: netip.MustParseAddr("10.0.0.7"), Bound: true, Left: time.Minute},
				{MAC: "02:00:00:00:00:04", Address: netip.MustParseAddr("10.0.0.6")},
			},
		},
		{Name: "lan", Mode: profiles.Bridge, Macvtap: true, KeeperPID: 8},
	}
	if err := a.Table("NAME MODE BRIDGE PREFIX UPLINKS KEEPER VMS", func(row call.Row) { networkRows(row, infos) }); err != nil {
		t.Fatal(err)
	}
	if err := a.leases(infos); err != nil {
		t.Fatal(err)
	}
	const networks = `
NAME  MODE    BRIDGE     PREFIX       UPLINKS     KEEPER  VMS
dev   nat     qn-dev     10.0.0.0/24  eth0,wlan0  7       a,b
lan   bridge  (macvtap)  -            -           8       -

NETWORK  ADDRESS   MAC                NAME  LEASE
dev      10.0.0.9  02:00:00:00:00:01  a     taken
dev      10.0.0.8  02:00:00:00:00:02  -     reserved
dev      10.0.0.7  02:00:00:00:00:03  -     1m0s
dev      10.0.0.6  02:00:00:00:00:04  -     offered
`
	if got := "\n" + out.String(); got != networks {
		t.Errorf("got %s", got)
	}
	if got := errout.String(); got != "warning: network dev: no DNS\n" {
		t.Errorf("says %q", got)
	}
}

func TestDoctorTables(t *testing.T) {
	var out bytes.Buffer
	modes := []profiles.Mode{profiles.NAT, profiles.Bridge}
	err := (doctor.Report{
		Findings: []doctor.Finding{
			{Check: "kernel", Status: doctor.Pass, Modes: modes, Evidence: "all\n  there", Remedy: "none"},
			{Check: "docker", Status: doctor.Fail, Modes: modes[:1], Evidence: "drops", Remedy: "iptables -I"},
			{Check: "left", Status: doctor.Warn, Evidence: "VM a"},
		},
		Modes: map[profiles.Mode]doctor.Status{profiles.NAT: doctor.Fail, profiles.Bridge: doctor.Pass},
	}).WriteText(&out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"kernel  ", "all  ", "all there\n", "-> iptables -I\n", "nat  ", "nat: cannot work, bridge: works\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %s", want, &out)
		}
	}
	if strings.Contains(out.String(), "none") {
		t.Errorf("a remedy of what passes:\n%s", &out)
	}
	out.Reset()
	err = (probe.Report{Network: "dev", Mode: profiles.NAT, Bridge: "qn-dev", Took: 1234 * time.Millisecond, Steps: []probe.Step{
		{Name: "lease", Outcome: probe.Fail, Took: time.Millisecond, Detail: "no\nOFFER", Cause: "a firewall"},
	}}).WriteText(&out)
	if err != nil || !strings.Contains(out.String(), "network dev: nat, bridge qn-dev, in 1.234s\n") || !strings.Contains(out.String(), "no OFFER\n") || !strings.Contains(out.String(), "-> a firewall\n") {
		t.Errorf("got %s, %v", &out, err)
	}
}

func TestLookupTarget(t *testing.T) {
	if got, err := probe.LookupTarget(t.Context(), "192.0.2.7:443"); err != nil || got != netip.MustParseAddrPort("192.0.2.7:443") {
		t.Errorf("got %v, %v", got, err)
	}
}

// Each rung of the shutdown ladder says what it waits for.
func TestRungWait(t *testing.T) {
	for rung, want := range map[string]string{
		qemu.RungPowerdown: "after 2s QEMU is told to quit", qemu.RungQuit: "then it gets SIGKILL",
		qemu.RungKill: "the end of QEMU",
	} {
		if got := rungWait(rung, 2*time.Second); !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", rung, got, want)
		}
	}
}

// The directories that root and other users have by default.
func TestDirectories(t *testing.T) {
	dirs := func(vars map[string]string) *app {
		a := &app{Call: call.Call{Env: call.Env{Stdout: io.Discard, Stderr: io.Discard, Getenv: func(name string) string { return vars[name] }}}}
		if err := a.command().Run([]string{"qnet", "version"}); err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := dirs(map[string]string{"QNET_RUN_DIR": "/r", "QNET_STATE_DIR": "/s", "XDG_RUNTIME_DIR": "/x", "XDG_STATE_HOME": "/y", "HOME": "/h"})
	if a.Places.Run != "/r" || a.Places.State != "/s" || a.Places.RootRun != "" || a.Places.RootState != "" {
		t.Errorf("named: %q, %q, root's %q, %q", a.Places.Run, a.Places.State, a.Places.RootRun, a.Places.RootState)
	}
	x, y, h := t.TempDir(), t.TempDir(), t.TempDir()
	a = dirs(map[string]string{"XDG_RUNTIME_DIR": x, "XDG_STATE_HOME": y, "HOME": h})
	b := dirs(map[string]string{"HOME": h})
	if os.Geteuid() == 0 {
		if a.Places.Run != place.RootRunDir || a.Places.State != place.RootStateDir || b.Places.Run != place.RootRunDir || a.Places.RootRun != "" {
			t.Errorf("root's: %q, %q", a.Places.Run, a.Places.State)
		}
		return
	}
	if a.Places.Run != x+"/qnet" || a.Places.State != y+"/qnet" || b.Places.Run != h+"/.local/state/qnet/run" || b.Places.State != h+"/.local/state/qnet" {
		t.Errorf("a user's: %q, %q; %q, %q", a.Places.Run, a.Places.State, b.Places.Run, b.Places.State)
	}
	if a.Places.RootRun != place.RootRunDir || a.Places.RootState != place.RootStateDir {
		t.Errorf("root's, for a user: %q, %q", a.Places.RootRun, a.Places.RootState)
	}
}
