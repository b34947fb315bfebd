package program_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/qemu/program"
)

func TestFind(t *testing.T) {
	there := script(t, "exit 0")
	dir := filepath.Dir(there)
	if got, err := program.Find("relative::"+dir, ""); err != nil || got != there {
		t.Errorf("got %q, %v, want %q", got, err, there)
	}
	if got, err := program.Find("", there); err != nil || got != there {
		t.Errorf("override by path: got %q, %v", got, err)
	}
	if got, err := program.Find(dir, filepath.Base(there)); err != nil || got != there {
		t.Errorf("override by name: got %q, %v", got, err)
	}
	if _, err := program.Find(dir, "no-such-qemu"); !errors.Is(err, program.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	if _, err := program.Find(dir, dir+"/no-such-qemu"); !errors.Is(err, program.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	t.Chdir(dir)
	if _, err := program.Find(".:", "qemu-system-x86_64"); !errors.Is(err, program.ErrNotFound) {
		t.Errorf("the working directory was searched: %v", err)
	}
	if err := os.Chmod(there, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := program.Find("", there); !errors.Is(err, os.ErrPermission) {
		t.Errorf("got %v, want ErrPermission", err)
	}
}

func TestProbe(t *testing.T) {
	for name, test := range map[string]struct {
		body string
		want program.Version
		err  error
	}{
		"debian-12":   {`echo "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg)"`, program.Version{Major: 7, Minor: 2, Micro: 22}, nil},
		"newer":       {`echo "QEMU emulator version 10.0.0"`, program.Version{Major: 10}, nil},
		"no-micro":    {`echo "QEMU emulator version 9.1"`, program.Version{Major: 9, Minor: 1}, nil},
		"too-old":     {`echo "QEMU emulator version 7.1.9"`, program.Version{Major: 7, Minor: 1, Micro: 9}, program.ErrTooOld},
		"much-older":  {`echo "QEMU emulator version 2.12.1"`, program.Version{Major: 2, Minor: 12, Micro: 1}, program.ErrTooOld},
		"takes-hours": {`exec sleep 30`, program.Version{}, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			got, err := program.Probe(ctx, script(t, test.body))
			if got != test.want || !errors.Is(err, test.err) {
				t.Errorf("got %v, %v, want %v, %v", got, err, test.want, test.err)
			}
		})
	}
	for _, body := range []string{`echo hello`, `echo broken >&2; exit 1`, ``} {
		if _, err := program.Probe(t.Context(), script(t, body)); err == nil {
			t.Errorf("%q: got no error", body)
		}
	}
}

// script returns the path of a program in shell.
func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "qemu-system-x86_64")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
