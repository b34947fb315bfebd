package guestagent

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// play is a guest that answers each command by what answer makes of its line, and each
// synchronization as the agent does.
func play(t *testing.T, answer func(line string) string) *Conn {
	t.Helper()
	ours, theirs := buffered(t)
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	go func() {
		for in := bufio.NewScanner(theirs); in.Scan(); {
			line := in.Text()[strings.LastIndexByte(in.Text(), delimiter)+1:] // before it, a question that was given up
			said := answer(line)
			if _, rest, ok := strings.Cut(line, `{"id":`); ok && said == "" {
				said = "\xff{\"return\": " + strings.TrimRight(strings.Split(rest, ",")[0], "}") + "}\n"
			}
			if _, err := theirs.Write([]byte(said)); err != nil {
				return
			}
		}
	}()
	return New(ours)
}

// buffered returns the ends of a port: unlike those of net.Pipe, neither waits for the other to
// read.
func buffered(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "port")
		if ends[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return ends[0], ends[1]
}

// A command's output comes as bytes, with its exit code; what came before, and late answers
// to other questions, are passed over.
func TestExec(t *testing.T) {
	out := base64.StdEncoding.EncodeToString([]byte("a\x00b"))
	asked := 0
	c := play(t, func(line string) string {
		switch {
		case strings.Contains(line, `"guest-sync-delimited"`) && asked == 0:
			asked++
			return "rubbish\n{\"return\": 99}\n\xff{\"return\": 99}\n" + strings.Repeat("x", maxAnswer+10) + "\n\xff\xff{\"return\": 1}\n"
		case strings.Contains(line, `"guest-exec"`) && strings.Contains(line, `"arg":["-c","x y"]`):
			return "{\"return\": {\"pid\": 7}}\n"
		case strings.Contains(line, `{"pid":7}`):
			if asked++; asked < 4 {
				return "{\"return\": {\"exited\": false}}\n"
			}
			return `{"return": {"exited": true, "exitcode": 3, "out-data": "` + out + `", "out-truncated": true}}` + "\n"
		}
		return ""
	})
	r, err := c.Exec(t.Context(), []string{"sh", "-c", "x y"})
	if err != nil || r.Code != 3 || string(r.Out) != "a\x00b" || len(r.Err) != 0 || r.Cut != "out" || !r.Exited {
		t.Errorf("%+v, %v", r, err)
	}
}

// Whatever a guest answers is an error, within bounds.
func TestHostileAnswers(t *testing.T) {
	for said, want := range map[string]string{
		`{"error": {"class": "GenericError", "desc": "no such\u001b[2J"}}`: `says "no such\x1b[2J"`,
		`{"return": {"pid": "x"}}`:       "read the guest agent's answer",
		`{"return": null`:                "read the guest agent's answer",
		`{}`:                             "it returns nothing",
		`[1,2]`:                          "read the guest agent's answer",
		strings.Repeat("y", maxAnswer+1): "longer than 8 MiB",
	} {
		c := play(t, func(line string) string {
			if strings.Contains(line, `"guest-exec"`) {
				return said + "\n"
			}
			return ""
		})
		if r, err := c.Exec(t.Context(), []string{"ls"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %+v, %v, want %q", said, r, err, want)
		}
	}
}

// A guest without an agent, and a command that does not end, take no longer than they may.
func TestSilentGuest(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	defer ours.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := New(ours).Exec(ctx, []string{"ls"}); !errors.Is(err, ErrSilent) {
		t.Errorf("got %v", err)
	}
	c := play(t, func(line string) string {
		switch {
		case strings.Contains(line, `"guest-exec"`):
			return "{\"return\": {\"pid\": 7}}\n"
		case strings.Contains(line, `{"pid":7}`):
			return fmt.Sprintln(`{"return": {"exited": false}}`)
		}
		return ""
	})
	long, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if r, err := c.Exec(long, []string{"sleep", "1000"}); r.Exited || err != nil && !errors.Is(err, ErrSilent) {
		t.Errorf("%+v, %v", r, err)
	}
	if err := (*Conn)(nil).Close(); err != nil {
		t.Error(err)
	}
}
