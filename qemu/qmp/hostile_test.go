package qmp_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/qemu/qmp"
)

// victimVariable makes TestVictim the process that a hostile QEMU goes for.
const victimVariable = "QNET_TEST_QMP_VICTIM"

// mostMemory is what a hostile stream may cost, in bytes; the detector of races multiplies what
// is allocated.
const mostMemory = raceFactor * (48 << 20)

func peakMemory() int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	kib, _ := strconv.Atoi(string(regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)[1]))
	return kib << 10
}

// TestVictim is no test but in the process of TestHostileStreams: it speaks to the other end of
// descriptor 3, and tells what that costs.
func TestVictim(t *testing.T) {
	if os.Getenv(victimVariable) == "" {
		t.Skip("it is run by TestHostileStreams")
	}
	before := peakMemory()
	file := os.NewFile(3, "qmp")
	conn, err := net.FileConn(file)
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
	defer cancel()
	m := qmp.New(conn)
	if err := m.ConnectContext(ctx); err != nil {
		t.Fatal(err)
	}
	events, err := m.Events(ctx)
	if err != nil {
		t.Fatal(err)
	}
	go drain(events)
	for {
		asking, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		_, err := m.RunContext(asking, []byte(query))
		cancel()
		if err != nil && strings.ContainsFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("an error could drive a terminal: %q", err)
		}
		if ctx.Err() != nil {
			t.Fatal("no end")
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) && !isReply(err) {
			break // it has ended
		}
		if err == nil {
			time.Sleep(time.Millisecond)
		}
	}
	if grown := peakMemory() - before; grown > mostMemory {
		t.Errorf("it grew by %d MiB", grown>>20)
	}
	fmt.Printf("grew by %d KiB, dropped %d events\n", (peakMemory()-before)>>10, m.DroppedEvents())
}

func isReply(err error) bool {
	var said *qmp.Error
	return errors.As(err, &said)
}

// mostTime bounds how long a stream is sent: on a busy machine it is shorter.
const mostTime = 10 * time.Second

// times writes a text over and over, until the other end hangs up.
func times(w io.Writer, n int, text string) {
	const many = 1000
	block := []byte(strings.Repeat(text, many))
	begin := time.Now()
	for range max(n/many, 1) {
		if _, err := w.Write(block); err != nil || time.Since(begin) > mostTime {
			return
		}
	}
}

// shakeHands begins as an honest QEMU does.
func shakeHands(t *testing.T, ours *os.File) {
	t.Helper()
	io.WriteString(ours, greeting)
	line, err := bufio.NewReader(ours).ReadBytes('\n')
	var r request
	if err == nil {
		err = json.Unmarshal(line, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(ours, `{"return":{},"id":%q}`+"\n", r.ID)
}

// Whatever a QEMU that its guest has taken over sends, a supervisor's process stays small, its
// commands end, its errors are printable, and it takes no event for the end.
func TestHostileStreams(t *testing.T) {
	if testing.Short() {
		t.Skip("some hundreds of megabytes")
	}
	for name, send := range map[string]func(io.Writer){
		"a line of 512 MiB":    func(w io.Writer) { io.WriteString(w, `{"event":"`); times(w, 512<<10, strings.Repeat("x", 1<<10)) },
		"a reply of 512 MiB":   func(w io.Writer) { io.WriteString(w, `{"return":"`); times(w, 512<<10, strings.Repeat("y", 1<<10)) },
		"a depth of a million": func(w io.Writer) { times(w, 1e6, "["); io.WriteString(w, "\n") },
		"deep data": func(w io.Writer) {
			io.WriteString(w, `{"event":"A","data":`)
			times(w, 1e6, `{"a":`)
			io.WriteString(w, "\n")
		},
		"a million events":         func(w io.Writer) { times(w, 1e6, fmt.Sprintf(event, "RESET", 1)) },
		"events that say it ended": func(w io.Writer) { times(w, 1e4, fmt.Sprintf(event, "SHUTDOWN", 1)+fmt.Sprintf(event, "POWERDOWN", 1)) },
		"replies nobody waits for": func(w io.Writer) { times(w, 1e5, `{"return":{},"id":"qnet-9999"}`+"\n") },
		"escapes": func(w io.Writer) {
			times(w, 1e4, `{"error":{"class":"\u001b[2J","desc":"\u009b2J\u0007\u202e"},"id":"qnet-2"}`+"\n")
		},
		"a path of a terminal": func(w io.Writer) {
			times(w, 1e4, `{"return":{"pty":"/dev/pts/0","filename":"pty:/dev/pts/0"},"id":"qnet-2"}`+"\n")
		},
		"empty lines":             func(w io.Writer) { times(w, 1e6, "\n\r\n") },
		"greetings over and over": func(w io.Writer) { times(w, 1e4, greeting) },
		"keys in capitals, twice": func(w io.Writer) {
			times(w, 1e4, `{"EVENT":"X","event":"Y","ID":"qnet-2","id":"qnet-3","RETURN":1}`+"\n")
		},
		"no JSON":                   func(w io.Writer) { times(w, 1e4, "\x00\xff{]\n") },
		"nothing, and no end of it": func(io.Writer) { time.Sleep(time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			theirs, ours := os.NewFile(uintptr(fds[0]), "victim"), os.NewFile(uintptr(fds[1]), "qemu")
			defer ours.Close()
			exe, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			cmd := exec.Command(exe, "-test.run", "^TestVictim$", "-test.v")
			cmd.Env = append(os.Environ(), victimVariable+"=1")
			cmd.ExtraFiles, cmd.Stdout, cmd.Stderr = []*os.File{theirs}, &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			theirs.Close()
			shakeHands(t, ours)
			go io.Copy(io.Discard, ours)
			send(ours)
			unix.Shutdown(fds[1], unix.SHUT_RDWR)
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			select {
			case err := <-ended:
				if err != nil {
					t.Errorf("%v\n%s", err, &out)
				}
			case <-time.After(100 * time.Second):
				cmd.Process.Kill()
				t.Errorf("no end\n%s", &out)
			}
			if i := strings.Index(out.String(), "grew by"); i >= 0 {
				line, _, _ := strings.Cut(out.String()[i:], "\n")
				t.Log(line)
			}
		})
	}
}
