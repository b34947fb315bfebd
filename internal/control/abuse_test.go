package control

import (
	"bufio"
	"encoding/json"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/rundir"
)

// attacked is a supervisor's socket that the test speaks to by hand.
func attacked(t testing.TB) rundir.VM {
	t.Helper()
	vm := place(t, "web")
	l, err := net.Listen("unix", vm.Socket())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	Serve(l, &fakeVM{state: State{Name: "web", State: Running}, rungs: make(chan string)})
	return vm
}

func dial(t testing.TB, vm rundir.VM) *net.UnixConn {
	t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: vm.Socket(), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func served(t testing.TB, vm rundir.VM) {
	t.Helper()
	if _, err := Find(t.Context(), vm.RunDir, "web"); err != nil {
		t.Errorf("a proper client: %v", err)
	}
}

// A client that sends its request byte by byte is cut off when its time is over, and others are
// served meanwhile.
func TestSlowWriterIsCutOff(t *testing.T) {
	t.Parallel() // it waits most of the time
	vm := attacked(t)
	var slow []*net.UnixConn
	for range 5 {
		slow = append(slow, dial(t, vm))
	}
	begin := time.Now()
	for len(slow) > 0 && time.Since(begin) < 4*requestTimeout {
		for i, c := range slow {
			if _, err := c.Write([]byte("{")); err != nil {
				slow = append(slow[:i], slow[i+1:]...)
				break
			}
		}
		served(t, vm)
		time.Sleep(50 * time.Millisecond)
	}
	if len(slow) > 0 {
		t.Errorf("%d clients are not cut off", len(slow))
	}
}

// A malformed request is refused, or its connection ended, at once and whatever its size; files that come along are
// not taken.
func TestMalformedRequests(t *testing.T) {
	vm := attacked(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	fds := make([]int, 253) // SCM_MAX_FD
	for i := range fds {
		fds[i] = int(null.Fd())
	}
	served(t, vm)
	before := openFiles(t)
	for what, request := range map[string]string{
		"nothing": "\n", "no JSON": "\x00\xff\n", "an array": "[]\n", "null": "null\n", "a wrong type": `{"op":7}` + "\n", "no such request": `{"op":"x"}` + "\n",
		"a negative time": `{"op":"stop","timeout":-1}` + "\n", "deep": strings.Repeat("[", maxRequest-2) + "\n", "too long": strings.Repeat("x", 2*maxRequest),
		"deep arguments": `{"op":"do","args":` + strings.Repeat("[", maxRequest-100) + "\n", "too much time": `{"op":"stop","timeout":1e99}` + "\n",
	} {
		c := dial(t, vm)
		c.SetDeadline(time.Now().Add(requestTimeout / 2))
		c.WriteMsgUnix([]byte(request)[:1], unix.UnixRights(fds...), nil)
		c.Write([]byte(request)[1:])
		var answer reply
		if err := json.NewDecoder(c).Decode(&answer); err == nil && answer.Error == "" || os.IsTimeout(err) {
			t.Errorf("%s: %+v, %v", what, answer, err)
		}
		c.Close()
		served(t, vm)
	}
	for begin := time.Now(); openFiles(t) > before; time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > requestTimeout {
			t.Fatalf("%d files are open, and were %d", openFiles(t), before)
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// So many clients are served at a time; the server says so to the next one, which takes no
// refusal for success.
func TestMostClients(t *testing.T) {
	vm := attacked(t)
	var stopping []*net.UnixConn
	for range mostClients {
		c := dial(t, vm)
		if _, err := c.Write([]byte(`{"op":"stop"}` + "\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != nil { // the first reply: it is inside
			t.Fatal(err)
		}
		stopping = append(stopping, c)
	}
	_, findErr := Find(t.Context(), vm.RunDir, "web")
	for what, err := range map[string]error{
		"find": findErr, "stop": Stop(t.Context(), vm.RunDir, "web", StopOptions{}),
		"do": Do(t.Context(), vm.RunDir, "web", Operation{Name: "echo"}, nil, DoOptions{}),
	} {
		if err == nil || !strings.Contains(err.Error(), "it serves 128 others") {
			t.Errorf("%s: %v", what, err)
		}
	}
	stopping[0].Close()
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		if _, err := Find(t.Context(), vm.RunDir, "web"); err == nil {
			break
		}
		if time.Since(begin) > requestTimeout {
			t.Fatal("who hung up keeps its place")
		}
	}
	stopping[1].CloseWrite() // it still wants its replies
	time.Sleep(50 * time.Millisecond)
	if stopping[1].SetReadDeadline(time.Now().Add(50 * time.Millisecond)); !waits(stopping[1]) {
		t.Error("who only says no more is hung up on")
	}
}

// waits reports whether the server has not hung up.
func waits(c *net.UnixConn) bool {
	for b := make([]byte, 4096); ; {
		if _, err := c.Read(b); err != nil {
			return errors.Is(err, os.ErrDeadlineExceeded)
		}
	}
}

// FuzzRequest sends anything to a supervisor's socket: it answers or hangs up, and goes on serving.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		`{"op":"status"}`, `{"op":"console"}` + "\nkeys\n", `{"op":"stop","force":true,"timeout":9}`, `{"op":"do","do":"echo","args":{"a":[1,"x"]}}`,
		`{"op":"do","do":"suspend","ends":true}`, `{"op":"do","do":"full"}`, `{"op":"do","do":"chan"}`, `{"op":"do","do":"echo","args":}`, `{"OP":"status","op":"x"}`,
		"", "\n\n", "null", `{"op":"stop","timeout":-1}`, strings.Repeat(`{"op":`, 100), "\xff\x00",
	} {
		f.Add([]byte(seed))
	}
	vm := place(f, "web")
	l, err := net.Listen("unix", vm.Socket())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { l.Close() })
	rungs := make(chan string)
	close(rungs) // the VM has ended
	Serve(l, &fakeVM{state: State{Name: "web", State: Running}, rungs: rungs})
	f.Fuzz(func(t *testing.T, request []byte) {
		c := dial(t, vm)
		defer c.Close()
		c.SetDeadline(time.Now().Add(requestTimeout / 2))
		c.Write(append(request, '\n')) // it may have hung up
		c.CloseWrite()
		for lines := bufio.NewReader(c); ; {
			line, err := lines.ReadString('\n')
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%q: no answer", request)
			}
			if err != nil || strings.Contains(line, `"ended":true`) {
				break
			}
		}
		served(t, vm)
	})
}
