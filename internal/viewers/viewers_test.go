package viewers

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Each viewer is handed on; one that QEMU does not take sees the end of its connection, and
// the next is served.
func TestServe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vnc.sock")
	if err := os.WriteFile(path, nil, 0o600); err != nil { // a dead supervisor's
		t.Fatal(err)
	}
	l, err := Listen(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", info, err)
	}
	full := errors.New("no more viewers")
	added := 0
	add := func(_ context.Context, f *os.File) error {
		if added++; added == 1 {
			return full
		}
		_, err := f.WriteString("RFB 003.008\n")
		return err
	}
	var refused []error
	done := make(chan struct{})
	go func() {
		defer close(done)
		Serve(t.Context(), l, add, func(err error) { refused = append(refused, err) })
	}()
	for _, want := range []string{"", "RFB 003.008\n"} {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(20 * time.Second))
		b := make([]byte, 64)
		n, _ := c.Read(b)
		if string(b[:n]) != want {
			t.Errorf("got %q, want %q", b[:n], want)
		}
		c.Close()
	}
	l.Close()
	<-done
	if len(refused) != 1 || !errors.Is(refused[0], full) {
		t.Errorf("got %v", refused)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	program := func(name, says string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\necho "+says+" >&2\nexit 1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	program("vncviewer", "RealVNC Viewer")
	program("remote-viewer", "x")
	if got, err := Find(t.Context(), ".:"+dir); !errors.Is(err, ErrNoViewer) {
		t.Errorf("got %q, %v", got, err)
	}
	other := program("gvncviewer", "x")
	if got, err := Find(t.Context(), dir); err != nil || got != other {
		t.Errorf("got %q, %v", got, err)
	}
	tiger := program("vncviewer", "TigerVNC Viewer 64-bit v1.12.0")
	if got, err := Find(t.Context(), dir); err != nil || got != tiger {
		t.Errorf("got %q, %v", got, err)
	}
}

// A viewer gets the desktop, and nothing else of the environment.
func TestCommand(t *testing.T) {
	env := map[string]string{"SECRET": "x", "HOME": "/home/u"}
	getenv := func(name string) string { return env[name] }
	if _, err := Command("/v", "/s", nil, getenv); !errors.Is(err, ErrNoDesktop) {
		t.Errorf("got %v", err)
	}
	env["DISPLAY"] = ":3"
	cmd, err := Command("/v", "/s", nil, getenv)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(cmd.Env, " ")
	if !strings.Contains(got, "DISPLAY=:3") || !strings.Contains(got, "HOME=/home/u") || strings.Contains(got, "SECRET") || cmd.Args[1] != "/s" {
		t.Errorf("got %q, %q", cmd.Args, got)
	}
}
