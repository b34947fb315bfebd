package qemu_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/qemu"
)

func TestFind(t *testing.T) {
	there := script(t, "exit 0")
	dir := filepath.Dir(there)
	if got, err := qemu.Find("relative::"+dir, ""); err != nil || got != there {
		t.Errorf("got %q, %v, want %q", got, err, there)
	}
	if got, err := qemu.Find("", there); err != nil || got != there {
		t.Errorf("override by path: got %q, %v", got, err)
	}
	if got, err := qemu.Find(dir, filepath.Base(there)); err != nil || got != there {
		t.Errorf("override by name: got %q, %v", got, err)
	}
	if _, err := qemu.Find(dir, "no-such-qemu"); !errors.Is(err, qemu.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	if _, err := qemu.Find(dir, dir+"/no-such-qemu"); !errors.Is(err, qemu.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	t.Chdir(dir)
	if _, err := qemu.Find(".:", "qemu-system-x86_64"); !errors.Is(err, qemu.ErrNotFound) {
		t.Errorf("the working directory was searched: %v", err)
	}
	if err := os.Chmod(there, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := qemu.Find("", there); !errors.Is(err, os.ErrPermission) {
		t.Errorf("got %v, want ErrPermission", err)
	}
}

func TestProbe(t *testing.T) {
	for name, test := range map[string]struct {
		body string
		want qemu.Version
		err  error
	}{
		"debian-12":   {`echo "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg)"`, qemu.Version{Major: 7, Minor: 2, Micro: 22}, nil},
		"newer":       {`echo "QEMU emulator version 10.0.0"`, qemu.Version{Major: 10}, nil},
		"no-micro":    {`echo "QEMU emulator version 9.1"`, qemu.Version{Major: 9, Minor: 1}, nil},
		"too-old":     {`echo "QEMU emulator version 7.1.9"`, qemu.Version{Major: 7, Minor: 1, Micro: 9}, qemu.ErrTooOld},
		"much-older":  {`echo "QEMU emulator version 2.12.1"`, qemu.Version{Major: 2, Minor: 12, Micro: 1}, qemu.ErrTooOld},
		"takes-hours": {`exec sleep 30`, qemu.Version{}, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			got, err := qemu.Probe(ctx, script(t, test.body))
			if got != test.want || !errors.Is(err, test.err) {
				t.Errorf("got %v, %v, want %v, %v", got, err, test.want, test.err)
			}
		})
	}
	for _, body := range []string{`echo hello`, `echo broken >&2; exit 1`, ``} {
		if _, err := qemu.Probe(t.Context(), script(t, body)); err == nil {
			t.Errorf("%q: got no error", body)
		}
	}
	if v, err := qemu.Probe(t.Context(), requireQEMU(t)); err != nil || v.Major < 7 {
		t.Errorf("got %v, %v", v, err)
	}
}
