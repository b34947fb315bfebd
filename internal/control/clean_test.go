package control

import (
	"bufio"
	"context"
	"errors"
	"net"
	"strings"
	"testing"
)

// answering is a supervisor that answers each connection with a text.
func answering(t *testing.T, name, text string) (runDir string) {
	t.Helper()
	vm := place(t, name)
	l, err := net.Listen("unix", vm.Socket())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			bufio.NewReader(c).ReadString('\n')
			c.Write([]byte(text))
			c.Close()
		}
	}()
	return vm.RunDir
}

// What another user's supervisor says cannot drive a terminal, nor fill memory, nor pass for
// another VM.
func TestHostileSupervisor(t *testing.T) {
	const evil = `\u001b[2J\u009b`
	dir := answering(t, "web", `{"name":"web","state":"`+evil+`","profile":"`+evil+`","pid":1,"nics":[{"network":"`+evil+`","address":"fe80::1%`+evil+`",
		"seen":{"addresses":["fe80::2%`+evil+`"]}}]}`)
	s, err := Find(t.Context(), dir, "web")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(s.State), s.Profile, s.NICs[0].Network, s.NICs[0].Address.String(), s.NICs[0].Seen.Addresses[0].String()} {
		if strings.ContainsAny(text, "\x1b\u009b") || !strings.Contains(text, "[2J") {
			t.Errorf("got %q", text)
		}
	}
	for name, text := range map[string]string{
		"another VM":    `{"name":"db","pid":1}`,
		"a pid":         `{"name":"web","pid":-1}`,
		"no end":        `{"name":"web","pid":1,"profile":"` + strings.Repeat("x", 2*maxAnswer),
		"no JSON":       "\x00\x01",
		"a bad address": `{"name":"web","pid":1,"nics":[{"address":"x"}]}`,
	} {
		if s, err := Find(t.Context(), answering(t, "web", text), "web"); err == nil {
			t.Errorf("%s: %+v", name, s)
		}
	}
	var rungs []string
	err = Stop(context.Background(), answering(t, "web", `{"version":1}{"rung":"`+evil+`"}{"error":"a`+evil+`\nb"}`), "web",
		StopOptions{Report: func(r string) { rungs = append(rungs, r) }})
	if err == nil || strings.ContainsAny(err.Error()+strings.Join(rungs, ""), "\x1b\u009b") || !strings.HasSuffix(err.Error(), "\nb") || len(rungs) != 1 {
		t.Errorf("stop: %q, %v", rungs, err)
	}
}

// A name that leads elsewhere is no VM's.
func TestNameLeadsToNoSocket(t *testing.T) {
	s := serve(t, "web")
	for _, name := range []string{"../vms/web", "./web", "web/", ""} {
		if _, err := Find(t.Context(), s.place.RunDir, name); !errors.Is(err, ErrNotRunning) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestNegativeTimeout(t *testing.T) {
	s := serve(t, "web")
	err := Stop(t.Context(), s.place.RunDir, "web", StopOptions{Timeout: -1})
	if err == nil || !strings.Contains(err.Error(), "below zero") || len(s.asked) != 0 {
		t.Errorf("got %v, asked %q", err, s.asked)
	}
}
