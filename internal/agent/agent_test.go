package agent

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// play is a guest that answers each line by what answer makes of the ID and the script.
func play(t *testing.T, answer func(id, script string) string) *Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	go func() {
		for in := bufio.NewScanner(theirs); in.Scan(); {
			id, code, _ := strings.Cut(in.Text(), " ")
			script, _ := base64.StdEncoding.DecodeString(code)
			fmt.Fprint(theirs, answer(id, string(script)))
		}
	}()
	return New(ours)
}

func TestRun(t *testing.T) {
	got := ""
	c := play(t, func(id, script string) string {
		got += script
		return "rubbish\n" + strings.Repeat("x", 1000) + "\n99 0\n" + id + " 0\n"
	})
	for _, script := range []string{"one\n", "two"} {
		if err := c.Run(t.Context(), script); err != nil {
			t.Fatal(err)
		}
	}
	if got != "one\ntwo" {
		t.Errorf("got %q", got)
	}
}

func TestRunFails(t *testing.T) {
	c := play(t, func(id, _ string) string { return id + " 3\n" })
	var status *StatusError
	if err := c.Run(t.Context(), "false"); !errors.As(err, &status) || status.Status != "3" {
		t.Errorf("got %v", err)
	}
}

// A guest says why its script failed, in words that a terminal can show.
func TestRunSaysWhy(t *testing.T) {
	for said, want := range map[string]string{
		base64.StdEncoding.EncodeToString([]byte("no\nlink \x1b[31meth0\n")): "no link [31meth0", "!": "", "": "",
	} {
		c := play(t, func(id, _ string) string { return id + " 1 " + said + "\n" })
		var status *StatusError
		if err := c.Run(t.Context(), "false"); !errors.As(err, &status) || status.Status != "1" || status.Said != want {
			t.Errorf("%q: got %v", said, err)
		}
	}
}

// A guest without an agent costs the time that its caller gives it, and a late answer is none
// to the next question.
func TestSilentGuest(t *testing.T) {
	silent := true
	c := play(t, func(id, _ string) string {
		if silent {
			return ""
		}
		return "1 0\n" + id + " 7\n"
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := c.Run(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	silent = false
	var status *StatusError
	if err := c.Run(t.Context(), "x"); !errors.As(err, &status) || status.Status != "7" {
		t.Errorf("got %v", err)
	}
}
