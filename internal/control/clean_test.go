package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"
)

// answering is a supervisor that answers each connection with a text.
func answering(t *testing.T, name, text string) (runDir string) {
	t.Helper()
	vm := place(t, name)
	play(t, vm, text)
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

// FuzzState lets a supervisor, which may be another user's, answer anything: a state that is taken has
// the VM's name, and no text that could drive a terminal.
func FuzzState(f *testing.F) {
	for _, seed := range []string{
		`{"name":"web","state":"running","pid":1}`, `{"name":"web","reason":"\u001b[2J","disks":["\u009b"],"pid":1}`, `{"name":"web","pid":1,"nics":[{"address":"fe80::1%\u001b"}]}`,
		`{"name":"web","guest":{"host_keys":["\u0007"]},"confined":{"layers":["\u001b"],"missing":[{"why":"\u202e"}]}}`, "{", `{"error":"\u001b"}`, `{"Name":"web","name":"x"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var s State
		if answers(bytes.NewReader(b)).decode(&s) != nil || s.check("web") != nil {
			return
		}
		shown := fmt.Sprintf("%+v %+v %+v %s", s, s.Guest, s.Confined, s.Status())
		for _, n := range s.NICs {
			shown += fmt.Sprintf("%+v %v", n, n.Addresses())
		}
		if i := strings.IndexFunc(shown, func(r rune) bool { return unicode.IsControl(r) && r != '\n' || r == '\u202e' }); i >= 0 {
			t.Errorf("got %q", shown)
		}
	})
}
