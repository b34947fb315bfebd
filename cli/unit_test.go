package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/guestwatch"
	"github.com/qnet-vm/qnet/profiles"
)

// caller runs commands in the test's process, with directories of its own. It needs no
// rights.
type caller struct {
	*testing.T
	dir string // run, state and profiles
}

func newCaller(t *testing.T) *caller {
	t.Helper()
	dir, err := os.MkdirTemp("", "qnet") //nolint:usetesting // t.TempDir's path may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &caller{t, dir}
}

func (u *caller) runDir() string   { return filepath.Join(u.dir, "run") }
func (u *caller) stateDir() string { return filepath.Join(u.dir, "state") }

func (u *caller) env(out, errout io.Writer) call.Env {
	vars := map[string]string{"QNET_RUN_DIR": u.runDir(), "QNET_STATE_DIR": u.stateDir(), "PATH": os.Getenv("PATH"), "HOME": u.dir}
	return call.Env{Stdout: out, Stderr: errout, Getenv: func(name string) string { return vars[name] }}
}

func (u *caller) qnet(args ...string) (code int, stdout, stderr string) {
	u.Helper()
	var out, errout bytes.Buffer
	code = Main(u.Context(), args, u.env(&out, &errout))
	return code, out.String(), errout.String()
}

// must runs a command that succeeds and says nothing on stderr.
func (u *caller) must(args ...string) string {
	u.Helper()
	code, out, errout := u.qnet(args...)
	if code != 0 || errout != "" {
		u.Fatalf("qnet %v: exit code %d\n%s", args, code, errout)
	}
	return out
}

// fails runs a command that fails with the code, and says the words.
func (u *caller) fails(code int, args []string, words ...string) {
	u.Helper()
	got, out, errout := u.qnet(args...)
	if got != code || out != "" {
		u.Errorf("qnet %v: exit code %d, want %d; stdout %q", args, got, code, out)
	}
	for _, w := range words {
		if !strings.Contains(errout, w) {
			u.Errorf("qnet %v: no %q in %q", args, w, errout)
		}
	}
}

func (u *caller) write(name, text string) string {
	u.Helper()
	path := filepath.Join(u.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		u.Fatal(err)
	}
	return path
}

// played is a VM whose supervisor is played by the test's process.
type played struct {
	mu    sync.Mutex
	state control.State
	ended chan struct{} // closed by Stop
}

func (p *played) State() control.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

func (p *played) change(f func(*control.State)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.state)
}

func (p *played) Stop(bool, time.Duration) { close(p.ended) }

func (p *played) Rungs(f func(string)) {
	<-p.ended
	f("quit")
}

func (p *played) Console(in io.Reader, out io.WriteCloser) {
	line, _ := bufio.NewReader(in).ReadString('\n')
	fmt.Fprintf(out, "you typed %s", line)
	out.Close()
}

func (p *played) Do(context.Context, string, json.RawMessage, func(string)) (any, error) {
	return nil, errors.New("it does nothing")
}

// play serves a VM until the test's end. undo is what its end meets.
func (u *caller) play(state control.State, undo error) *played {
	u.Helper()
	vm := rundir.VM{RunDir: u.runDir(), Name: state.Name}
	if err := vm.Make(); err != nil {
		u.Fatal(err)
	}
	l, err := net.Listen("unix", vm.Socket())
	if err != nil {
		u.Fatal(err)
	}
	conns := make(chan net.Conn, 100)
	p := &played{state: state, ended: make(chan struct{})}
	server := control.Serve(kept{l, conns}, p)
	u.Cleanup(func() { l.Close() })
	go func() {
		<-p.ended
		server.End(undo)
		time.Sleep(100 * time.Millisecond) // the process ends a little later
		l.Close()
		for {
			select {
			case c := <-conns:
				c.Close()
			default:
				return
			}
		}
	}()
	return p
}

// kept is a listener that keeps its connections.
type kept struct {
	net.Listener
	conns chan net.Conn
}

func (k kept) Accept() (net.Conn, error) {
	c, err := k.Listener.Accept()
	if err == nil {
		k.conns <- c
	}
	return c, err
}

func addresses(list ...string) []netip.Addr {
	var addrs []netip.Addr
	for _, a := range list {
		addrs = append(addrs, netip.MustParseAddr(a))
	}
	return addrs
}

// web is a VM with a NIC of each kind.
func web() control.State {
	return control.State{
		Name: "web", State: control.Running, Profile: "/p/web.toml", PID: 7, QEMU: 8, Started: time.Now().Add(-time.Minute),
		NICs: []control.NIC{
			{
				Mode: profiles.NAT, Network: "dev", Bridge: "qn-dev", Tap: "qnweb0", MAC: control.MAC{2, 0, 0, 0, 0, 1},
				Address: netip.MustParseAddr("10.0.0.9"), Seen: guestwatch.State{Stages: 1 << guestwatch.ARP, Addresses: addresses("10.0.0.9")},
			},
			{Index: 1, Mode: profiles.User, MAC: control.MAC{2, 0, 0, 0, 0, 2}},
		},
	}
}

func TestPs(t *testing.T) {
	u := newCaller(t)
	if out := u.must("ps"); out != "NAME  STATE  MODE  NETWORK  ADDRESS  MAC  TAP  UPTIME\n" {
		t.Errorf("no VM: %q", out)
	}
	if out := u.must("ps", "--json"); out != "[]\n" {
		t.Errorf("no VM as JSON: %q", out)
	}
	u.play(web(), nil)
	u.play(control.State{Name: "bare", State: control.Starting, Started: time.Now()}, nil)
	const want = `
NAME  STATE     MODE  NETWORK  ADDRESS   MAC                TAP     UPTIME
bare  starting  -     -        -         -                  -       0s
web   running   nat   dev      10.0.0.9  02:00:00:00:00:01  qnweb0  1m0s
                user  -        -         02:00:00:00:00:02  -       
`
	if out := "\n" + u.must("ps"); out != want {
		t.Errorf("got  %q\nwant %q", out, want)
	}
	var states []control.State
	if err := json.Unmarshal([]byte(u.must("--run-dir", u.runDir(), "ps", "--json")), &states); err != nil || len(states) != 2 || states[1].NICs[0].Tap != "qnweb0" {
		t.Errorf("got %+v, %v", states, err)
	}
	u.fails(exitUsage, []string{"ps", "web"}, `ps takes no argument "web"`)
}

func TestIPAndHosts(t *testing.T) {
	u := newCaller(t)
	p := u.play(web(), nil)
	if out := u.must("ip", "web"); out != "10.0.0.9\n" {
		t.Errorf("ip: %q", out)
	}
	const all = `[
  {
    "nic": 0,
    "mode": "nat",
    "network": "dev",
    "mac": "02:00:00:00:00:01",
    "reserved": "10.0.0.9",
    "addresses": [
      "10.0.0.9"
    ],
    "stage": "ARP"
  },
  {
    "nic": 1,
    "mode": "user",
    "mac": "02:00:00:00:00:02",
    "addresses": [],
    "stage": "no frame"
  }
]
`
	if out := u.must("ip", "web", "--json"); out != all {
		t.Errorf("ip --json: %s", out)
	}
	if out := u.must("hosts"); out != "10.0.0.9\tweb.qnet web\n" {
		t.Errorf("hosts: %q", out)
	}
	p.change(func(s *control.State) { s.NICs[0].Seen = guestwatch.State{} })
	u.fails(exitFailure, []string{"ip", "web"}, "none yet", "hint: qnet wait web")
	if out := u.must("hosts"); out != "10.0.0.9\tweb.qnet web\n" {
		t.Errorf("hosts of a guest that boots: %q", out)
	}
	p.change(func(s *control.State) { s.NICs = s.NICs[1:] })
	u.fails(exitFailure, []string{"ip", "web"}, "sees no address of it")
	if out := u.must("hosts"); out != "" {
		t.Errorf("hosts without a network: %q", out)
	}
	u.fails(exitFailure, []string{"ip", "db"}, `VM "db": it is not running`, `hint: "qnet ps"`)
	u.fails(exitUsage, []string{"ip"}, "ip needs NAME", "qnet ip --help")
}

// A VM that was suspended or stopped is not just one that does not run: each command says how
// it goes on.
func TestCommandsForVMsThatDoNotRun(t *testing.T) {
	u := newCaller(t)
	vm := filepath.Join(u.stateDir(), "vms/web")
	if err := os.MkdirAll(vm, 0o700); err != nil {
		t.Fatal(err)
	}
	u.write("state/vms/web/record.json", `{"profile": "/p/web.toml"}`)
	commands := [][]string{{"exec", "web", "--", "true"}, {"ssh", "web"}, {"cp", "a", "web:"}, {"pause", "web"}, {"suspend", "web"}, {"stop", "web"}, {"console", "web"}}
	for _, args := range append(commands, []string{"resume", "web"}) {
		u.fails(exitFailure, args, `VM "web": it is not running`, "hint: qnet start web runs it")
	}
	if err := os.Mkdir(filepath.Join(vm, "memory"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range commands {
		u.fails(exitFailure, args, `VM "web": it is saved, and does not run`, "hint: qnet resume web lets it go on")
	}
}

// An empty operand is a variable of a shell that is not set: it means nothing.
func TestEmptyOperands(t *testing.T) {
	u := newCaller(t)
	for _, args := range [][]string{
		{"start", ""}, {"edit", ""}, {"stop", ""}, {"plan", ""}, {"image", "rm", ""}, {"image", "pull", "debian-12", ""}, {"suspend", ""}, {"ip", ""}, {"screenshot", "web", ""},
	} {
		u.fails(exitUsage, args, " is empty; ")
	}
	u.fails(exitUsage, []string{"run", ""}, "run needs a PROFILE")
	u.fails(exitUsage, []string{"type", "web", ""}, "TEXT is empty; --enter presses Enter alone")
	u.fails(exitUsage, []string{"screenshot", "web", "a.BMP"}, `got "a.BMP", but the picture is PNG; allowed: a name that ends with .png`)
}

// A guest that its user has paused is not waited for.
func TestPausedGuestIsNotWaitedFor(t *testing.T) {
	u := newCaller(t)
	u.play(web(), nil).change(func(s *control.State) { s.State, s.Reason = control.Paused, "by qnet pause" })
	for _, args := range [][]string{{"exec", "web", "--", "true"}, {"cp", "a", "web:"}, {"wait", "web"}, {"ssh", "web"}} {
		u.fails(exitFailure, args, `VM "web": it is paused (by qnet pause), and answers nothing`, "hint: qnet resume web lets it go on")
	}
}

func TestStopTells(t *testing.T) {
	u := newCaller(t)
	u.play(web(), nil)
	code, out, said := u.qnet("stop", "web", "--force")
	if code != 0 || out != "" || said != "web: quit\n" {
		t.Errorf("exit code %d, %q, %q", code, out, said)
	}
	u.play(control.State{Name: "db"}, errors.New(`leave network "dev": no rights`))
	u.fails(exitFailure, []string{"stop", "db"}, "db: quit", `VM "db" has ended, but not everything was undone: leave network "dev": no rights`, "sudo qnet gc")
	u.fails(exitUsage, []string{"stop", "--timeout", "0s", "db"}, "more than 0s", "--force")
	u.fails(exitUsage, []string{"stop", "--timeout", "3", "db"}, "30s or 2m")
}

func TestWaitForAVM(t *testing.T) {
	u := newCaller(t)
	p := u.play(web(), nil)
	if _, out, _ := u.qnet("wait", "web"); out != "10.0.0.9\n" {
		t.Errorf("got %q", out)
	}
	p.change(func(s *control.State) { s.NICs[0].Seen = guestwatch.State{} })
	u.fails(exitFailure, []string{"wait", "--timeout", "10ms", "web"}, "web: waiting for an address; QEMU running", "no frame from the guest",
		"hint: sudo qnet doctor --probe /p/web.toml")
	p.change(func(s *control.State) { s.State = control.Starting })
	u.fails(exitFailure, []string{"wait", "--timeout", "10ms", "web"}, "VM starting", "not ready yet")
	p.change(func(s *control.State) { s.State, s.NICs[0].Mode = control.Running, profiles.Private })
	u.fails(exitUsage, []string{"wait", "--for", "ping", "web"}, "private network, which the host cannot reach")
	p.change(func(s *control.State) { s.NICs = s.NICs[1:] })
	u.fails(exitUsage, []string{"wait", "web"}, "sees no address of it")
	u.fails(exitUsage, []string{"wait", "--for", "port:x", "web"}, "address, ping, port:N")
	u.fails(exitFailure, []string{"wait", "db"}, "not running")
}

// A context that ends is the user's wish, not a failure of the guest.
func TestWaitEndsWithItsContext(t *testing.T) {
	u := newCaller(t)
	p := u.play(web(), nil)
	p.change(func(s *control.State) { s.NICs[0].Seen = guestwatch.State{} })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if code := Main(ctx, []string{"wait", "web"}, u.env(io.Discard, io.Discard)); code != exitInterrupted && code != exitFailure {
		t.Errorf("exit code %d", code)
	}
}

func TestConsoleIntoAPipe(t *testing.T) {
	u := newCaller(t)
	u.play(web(), nil)
	ours, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	defer theirs.Close()
	io.WriteString(theirs, "ls\n")
	var out bytes.Buffer
	env := u.env(&out, io.Discard)
	env.Stdin = ours
	if code := Main(t.Context(), []string{"console", "web"}, env); code != 0 || out.String() != "you typed ls\n" {
		t.Errorf("exit code %d, %q", code, &out)
	}
	u.fails(exitFailure, []string{"console", "db"}, "not running")
}

func TestLogs(t *testing.T) {
	u := newCaller(t)
	if err := os.MkdirAll(u.stateDir()+"/logs/web", 0o700); err != nil {
		t.Fatal(err)
	}
	u.write("state/logs/web/console.log", "login:\x1b[2J")
	for _, args := range [][]string{{"logs", "web"}, {"logs", "-f", "web"}} { // it does not run
		if out := u.must(args...); out != "login:\x1b[2J" {
			t.Errorf("into a pipe, a log is left as it is: %q", out)
		}
	}
	u.fails(exitFailure, []string{"logs", "db"}, "never ran")
	u.fails(exitUsage, []string{"logs", "../web"}, "allowed")
}

func TestCheckMacSchemaVersion(t *testing.T) {
	u := newCaller(t)
	good := u.write("good.toml", "[[nic]]\nmode = \"user\"\n[[nic]]\nmode = \"none\"\nmac = \"52:54:00:01:02:03\"\n")
	bad := u.write("bad.toml", "memory = \"lots\"\ncpus = 0\n")
	if out := u.must("check", good); out != "" {
		t.Errorf("check: %q", out)
	}
	u.fails(exitUsage, []string{"check", good, bad}, "bad.toml:1: ", "bad.toml:2: ")
	u.fails(exitUsage, []string{"check"}, "check needs a PROFILE")
	files := u.write("files.toml", `[guest]
user_data = "no.yaml"
keys = ["no.pub", "nor.pub"]
[[share]]
path = "no"
mount = "/src"
[[share]]
path = "/usr"
mount = "/srv"
[[nic]]
mode = "none"
`)
	u.fails(exitUsage, []string{"check", files}, "guest.user_data: open", "no.yaml", "guest.keys[0]: ", "guest.keys[1]: ", `open share "`+u.dir+`/no": no such file`, `files.toml:8: share[1].path: got "/usr", outside`)
	u.fails(exitUsage, []string{"run", files}, `files.toml:8: share[1].path: got "/usr", outside`, "--allow-path /usr ")
	u.fails(exitUsage, []string{"run", "--allow-path", "/usr", files}, `open share "`+u.dir+`/no": no such file`)
	if _, _, talk := u.qnet("check", "--allow-path", "/usr", files); strings.Contains(talk, "/usr") {
		t.Errorf("with --allow-path: %s", talk)
	}
	u.fails(exitUsage, []string{"check", u.dir + "/none.toml"}, "no such file")
	u.write("text.img", "no image")
	for image, want := range map[string]string{"debian-99": `image "debian-99": not in the catalog`, "none.qcow2": `open image "` + u.dir + `/none.qcow2": no such file`, "text.img": "the file is no image of a disk"} {
		code, _, said := u.qnet("check", u.write("image.toml", fmt.Sprintf("image = %q\n[[nic]]\nmode = \"none\"\n", image)))
		if code == exitOK || !strings.Contains(said, want) {
			t.Errorf("check of image %s: exit code %d, %s", image, code, said)
		}
		if _, out, _ := u.qnet("plan", u.dir+"/image.toml"); !strings.Contains(out, want) {
			t.Errorf("plan of image %s: %s", image, out)
		}
	}

	macs := strings.Fields(u.must("mac", good))
	if len(macs) != 2 || !strings.HasPrefix(macs[0], "52:54:00:") || macs[1] != "52:54:00:01:02:03" {
		t.Errorf("mac: %q", macs)
	}
	if again := strings.Fields(u.must("mac", good)); again[0] != macs[0] {
		t.Errorf("mac: %q, then %q", macs, again)
	}
	if a, b := u.must("mac"), u.must("mac"); a == b || len(a) != len("52:54:00:00:00:00\n") {
		t.Errorf("random MACs %q and %q", a, b)
	}
	if out := u.must("schema"); !json.Valid([]byte(out)) || !strings.Contains(out, `"memory"`) {
		t.Errorf("schema: %q", out)
	}
	for _, args := range [][]string{{"version"}, {"--version"}} {
		if out := u.must(args...); out != "qnet dev\n" {
			t.Errorf("%v: %q", args, out)
		}
	}
	for _, name := range []string{"schema", "version", "hosts", "gc", "net"} {
		u.fails(exitUsage, []string{name, "x"}, name+" takes no argument")
	}
}

// A plan without networks needs no rights, and shows the QEMU command.
func TestPlanOfUserMode(t *testing.T) {
	u := newCaller(t)
	path := u.write("u.toml", "accel = \"tcg\"\n[[nic]]\nmode = \"user\"\nmac = \"52:54:00:01:02:03\"\n")
	code, out, said := u.qnet("plan", path)
	if code != 0 || !strings.Contains(out, "qemu-system-x86_64 -nodefaults") || !strings.Contains(out, `"mac":"52:54:00:01:02:03"`) {
		t.Errorf("exit code %d, %q", code, out)
	}
	if !strings.Contains(said, "note: the first run chooses this host's salt") {
		t.Errorf("says %q", said)
	}
	var p planned
	_, out, _ = u.qnet("plan", "--json", path)
	if err := json.Unmarshal([]byte(out), &p); err != nil || !strings.HasPrefix(p.QEMU, "qemu-system-x86_64 ") {
		t.Errorf("JSON: %v, %+v", err, p)
	}
	u.fails(exitUsage, []string{"plan"}, "plan needs PROFILE")
}

func TestGC(t *testing.T) {
	u := newCaller(t)
	if out := u.must("gc"); out != "" {
		t.Errorf("nothing to remove: %q", out)
	}
	if err := (rundir.VM{RunDir: u.runDir(), Name: "dead"}).Make(); err != nil {
		t.Fatal(err)
	}
	if out := u.must("gc"); out != "removed VM dead\n" {
		t.Errorf("got %q", out)
	}
	if _, err := os.Stat(u.runDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the run directory stays: %v", err)
	}
	if out := u.must("net", "--json"); out != "[]\n" {
		t.Errorf("net: %q", out)
	}
}
