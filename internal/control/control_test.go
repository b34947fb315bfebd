package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/guestwatch"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/profiles"
)

// place makes a VM's directory below a run directory of the test's own. Its path is
// short enough for a socket.
func place(t testing.TB, name string) rundir.VM {
	t.Helper()
	dir, err := os.MkdirTemp("", "qnet") //nolint:usetesting // t.TempDir's path may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	vm := rundir.VM{RunDir: dir, Name: name}
	if err := vm.Make(); err != nil {
		t.Fatal(err)
	}
	return vm
}

// fakeVM is a VM whose shutdown ladder the test climbs.
type fakeVM struct {
	state State
	rungs chan string // closed at QEMU's end

	mu    sync.Mutex
	asked []string
}

func (f *fakeVM) State() State { return f.state }

func (f *fakeVM) Stop(force bool, timeout time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, fmt.Sprint(force, timeout))
}

func (f *fakeVM) Rungs(tell func(string)) {
	for rung := range f.rungs {
		tell(rung)
	}
}

func (f *fakeVM) Console(in io.Reader, out io.WriteCloser) {
	line, _ := bufio.NewReader(in).ReadString('\n')
	io.WriteString(out, "you typed "+line)
	out.Close()
}

func (f *fakeVM) Do(_ context.Context, op string, args json.RawMessage, tell func(string)) (any, error) {
	tell("begins")
	switch op {
	case "echo", "suspend":
		return args, nil
	case "full":
		return nil, advised{fmt.Errorf("write \x1b[2J: %w", unix.ENOSPC)}
	}
	return make(chan int), nil // which JSON cannot show
}

// advised is an error with a hint.
type advised struct{ error }

func (advised) Hint() string { return "make room" }

func (a advised) Unwrap() error { return a.error }

// supervisor serves a fake VM on its socket until the test's end, as a process would:
// exit closes the connections.
type supervisor struct {
	*fakeVM
	*Server
	place    rundir.VM
	listener net.Listener
	conns    []net.Conn
}

// Accept keeps the connections, for exit.
type listener struct {
	net.Listener
	s *supervisor
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.s.fakeVM.mu.Lock()
		l.s.conns = append(l.s.conns, c)
		l.s.fakeVM.mu.Unlock()
	}
	return c, err
}

func serve(t *testing.T, name string) *supervisor {
	t.Helper()
	s := &supervisor{fakeVM: &fakeVM{state: State{Name: name, State: Running}, rungs: make(chan string, 4)}, place: place(t, name)}
	l, err := net.Listen("unix", s.place.Socket())
	if err != nil {
		t.Fatal(err)
	}
	s.listener = l
	s.Server = Serve(listener{l, s}, s.fakeVM)
	t.Cleanup(s.exit)
	return s
}

func (s *supervisor) exit() {
	s.listener.Close()
	s.fakeVM.mu.Lock()
	defer s.fakeVM.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
}

func TestFind(t *testing.T) {
	s := serve(t, "web")
	s.state = State{
		Name: "web", State: Stopping, Profile: "/web.toml", PID: 7, QEMU: 8, Started: time.Unix(9, 0).UTC(),
		NICs: []NIC{{Mode: profiles.NAT, MAC: MAC{0x52, 0x54, 0, 1, 2, 3}, Address: netip.MustParseAddr("10.0.0.9"), Seen: guestwatch.State{NAKs: 1}}},
	}
	got, err := Find(t.Context(), s.place.RunDir, "web")
	if err != nil || got.State != Stopping || got.Profile != "/web.toml" || got.QEMU != 8 || !got.Started.Equal(s.state.Started) {
		t.Errorf("got %+v, %v", got, err)
	}
	if len(got.NICs) != 1 || got.NICs[0].MAC.String() != "52:54:00:01:02:03" || got.NICs[0].Address != s.state.NICs[0].Address || got.NICs[0].Seen.NAKs != 1 {
		t.Errorf("NICs %+v", got.NICs)
	}
	_, err = Find(t.Context(), s.place.RunDir, "db")
	if !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), `"db"`) {
		t.Errorf("a VM that never ran: %v", err)
	}
	s.exit()
	if _, err := Find(t.Context(), s.place.RunDir, "web"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a VM whose supervisor is gone: %v", err)
	}
}

// The JSON of a State is what `qnet ps --json` prints: addresses are text, and what
// there is not is left out.
func TestStateAsJSON(t *testing.T) {
	b, err := json.Marshal(State{Name: "web", State: Running, NICs: []NIC{{Mode: profiles.None, MAC: MAC{2, 0, 0, 0, 0, 1}}}})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"name":"web","state":"running","profile":"","pid":0,"started":"0001-01-01T00:00:00Z",` +
		`"nics":[{"index":0,"mode":"none","mac":"02:00:00:00:00:01"}]}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	var n NIC
	if err := json.Unmarshal([]byte(`{"mac":"52:54"}`), &n); err == nil {
		t.Error("half a MAC is accepted")
	}
	if err := json.Unmarshal([]byte(`{"mac":""}`), &n); err != nil || n.MAC != nil {
		t.Errorf("no MAC: %v, %v", n.MAC, err)
	}
}

// play is a supervisor that says these words to each client.
func play(t *testing.T, vm rundir.VM, words string) {
	t.Helper()
	lab.Serve(t, "unix", vm.Socket(), func(c net.Conn) {
		bufio.NewReader(c).ReadString('\n')
		io.WriteString(c, words)
	})
}

// A client learns each rung, the end of QEMU, and how the undo went.
func TestStop(t *testing.T) {
	failed := fmt.Errorf("undo sysctl: %w", host.ErrNotOurs)
	for name, undo := range map[string]error{"undone": nil, "undo-failed": failed} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, "web")
			s.rungs <- "power button"
			var heard []string
			ended := func() {
				heard = append(heard, "ended")
				go func() {
					s.End(undo)
					s.exit()
				}()
			}
			go func() {
				s.rungs <- "quit"
				close(s.rungs)
			}()
			err := Stop(t.Context(), s.place.RunDir, "web", StopOptions{
				Force: true, Timeout: time.Second, Ended: ended, Report: func(rung string) { heard = append(heard, rung) },
			})
			if want := []string{"power button", "quit", "ended"}; !slices.Equal(heard, want) {
				t.Errorf("heard %q, want %q", heard, want)
			}
			if want := []string{"true 1s"}; !slices.Equal(s.asked, want) {
				t.Errorf("asked %q, want %q", s.asked, want)
			}
			var u *UndoError
			if undo == nil && err != nil || undo != nil && (!errors.As(err, &u) || u.VM != "web" || !errors.Is(u.Err, host.ErrNotOurs) || !errors.Is(err, ErrNotUndone) || !strings.Contains(err.Error(), "undo sysctl")) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// What the end of the connection means depends on what the supervisor said before.
func TestStopByWhatWasSaid(t *testing.T) {
	const hello = `{"version":1}` + "\n"
	for words, want := range map[string]error{
		"": nil, // it was just ending, or is of version 0
		`{"rung":"quit"}` + "\n{\"ended\":true}\n":        nil, // of version 0
		hello + `{"rung":"quit"}` + "\n":                  ErrDied,
		hello + `{"ended":true}` + "\n":                   ErrDied,
		hello + `{"ended":true}` + "\n" + `{"last":{}}`:   nil,
		hello + `{"last":{"error":{"text":"no rights"}}}`: ErrNotUndone,
	} {
		vm := place(t, "web")
		play(t, vm, words)
		err := Stop(t.Context(), vm.RunDir, "web", StopOptions{})
		if !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("%q: got %v, want %v", words, err, want)
		}
	}
	vm := place(t, "web")
	play(t, vm, `{"error":"unknown request stop"}`)
	if err := Stop(t.Context(), vm.RunDir, "web", StopOptions{}); err == nil || !strings.Contains(err.Error(), "unknown request") {
		t.Errorf("a refused request: %v", err)
	}
}

// A client that comes while the last reply is given, or after, gets it as well.
func TestStopAtTheEnd(t *testing.T) {
	s := serve(t, "web")
	s.End(errors.New("too late"))
	time.AfterFunc(100*time.Millisecond, s.exit)
	var undo *UndoError
	if err := Stop(t.Context(), s.place.RunDir, "web", StopOptions{}); !errors.As(err, &undo) || undo.Err.Error() != "too late" {
		t.Errorf("got %v", err)
	}
	if len(s.asked) != 0 {
		t.Errorf("asked a VM that has ended: %q", s.asked)
	}
}

// The client's context ends each call though the supervisor is silent.
func TestContextEndsCalls(t *testing.T) {
	s := serve(t, "web")
	vm := place(t, "deaf") // its connections wait in the backlog
	if l, err := net.Listen("unix", vm.Socket()); err != nil {
		t.Fatal(err)
	} else {
		defer l.Close()
	}
	for name, call := range map[string]func(context.Context) error{
		"stop":    func(ctx context.Context) error { return Stop(ctx, s.place.RunDir, "web", StopOptions{}) },
		"status":  func(ctx context.Context) error { _, err := Find(ctx, vm.RunDir, "deaf"); return err },
		"console": func(ctx context.Context) error { return Console(ctx, vm.RunDir, "deaf", blocked{}, io.Discard) },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		begin := time.Now()
		err := call(ctx)
		cancel()
		if took := time.Since(begin); took > 2*time.Second || name != "console" && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: after %s: %v", name, took, err)
		}
	}
}

// blocked is a keyboard without keys.
type blocked struct{}

func (blocked) Read([]byte) (int, error) { select {} }

func TestConsole(t *testing.T) {
	s := serve(t, "web")
	var out strings.Builder
	keys, typed := io.Pipe()
	go io.WriteString(typed, "reboot\n")
	if err := Console(t.Context(), s.place.RunDir, "web", keys, &out); err != nil || out.String() != "you typed reboot\n" {
		t.Errorf("got %q, %v", &out, err)
	}
}

// The server refuses what it does not know and ends connections without a request.
func TestBadRequests(t *testing.T) {
	s := serve(t, "web")
	for request, want := range map[string]string{
		"{\"op\":\"dance\"}\n":                 `{"error":"unknown request dance"}` + "\n",
		"not JSON\n":                           "",
		strings.Repeat("x", maxRequest) + "\n": "",
	} {
		c, err := net.Dial("unix", s.place.Socket())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, request)
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		got, err := io.ReadAll(c)
		if string(got) != want || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%.20q: got %q, %v", request, got, err)
		}
		c.Close()
	}
}

func TestAddresses(t *testing.T) {
	list := func(text ...string) (addrs []netip.Addr) {
		for _, a := range text {
			addrs = append(addrs, netip.MustParseAddr(a))
		}
		return addrs
	}
	seen := list("10.0.0.7", "10.0.0.8", "fe80::1")
	for reserved, want := range map[netip.Addr][]netip.Addr{
		{}:                              seen,
		netip.MustParseAddr("10.0.0.7"): seen,
		netip.MustParseAddr("10.0.0.8"): list("10.0.0.8", "10.0.0.7", "fe80::1"),
		netip.MustParseAddr("10.0.0.9"): seen, // the guest does not use it yet
	} {
		n := NIC{Address: reserved, Seen: guestwatch.State{Addresses: slices.Clone(seen)}}
		if got := n.Addresses(); !slices.Equal(got, want) || !slices.Equal(n.Seen.Addresses, seen) {
			t.Errorf("reserved %v: got %v, want %v", reserved, got, want)
		}
	}
}
