package sandbox_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/confine"
	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/qemu/program"
	"github.com/qnet-vm/qnet/qemu/sandbox"
)

// self is a program that the kernel loads by itself.
func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func script(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexec qemu \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDecide(t *testing.T) {
	lab.Require(t, lab.Root, lab.Need{Name: "Landlock", OK: func() bool { return confine.Landlock() > 0 }})
	for name, test := range map[string]struct {
		need    sandbox.Need
		uid     uint32
		missing map[sandbox.Layer]string
	}{
		"all":           {sandbox.Need{Binary: self(t)}, 1000, nil},
		"a script":      {sandbox.Need{Binary: script(t)}, 1000, map[sandbox.Layer]string{sandbox.Files: "no program that the kernel loads"}},
		"own arguments": {sandbox.Need{Binary: self(t), Extra: true}, 1000, map[sandbox.Layer]string{sandbox.Files: "behind --"}},
		"as root":       {sandbox.Need{Binary: self(t)}, 0, map[sandbox.Layer]string{sandbox.User: "runs as root"}},
		"off": {sandbox.Need{Mode: sandbox.Off, Binary: self(t)}, 1000, map[sandbox.Layer]string{
			sandbox.Filter: "off", sandbox.Files: "off", sandbox.Namespaces: "off", sandbox.Limits: "off",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			layers, err := sandbox.Decide(test.need, test.uid)
			if err != nil {
				t.Fatal(err)
			}
			r := layers.Report()
			if got := len(r.Layers) + len(r.Missing); got != 5 || len(r.Missing) != len(test.missing) {
				t.Errorf("in force: %s; missing: %s", r, r.Lacks())
			}
			for _, m := range r.Missing {
				if !strings.Contains(m.Why, test.missing[m.Layer]) || slices.Contains(r.Layers, m.Layer) {
					t.Errorf("%s is missing: %s", m.Layer, m.Why)
				}
			}
			test.need.Mode = sandbox.Required
			_, err = sandbox.Decide(test.need, test.uid)
			var lack *program.Lack
			if name != "off" && errors.As(err, &lack) != (len(test.missing) > 0) {
				t.Errorf("required: got %v", err)
			}
		})
	}
}

// What the kernel refuses at the start is missing, too.
func TestNamespacesRefused(t *testing.T) {
	lab.Require(t, lab.Root)
	for _, mode := range []sandbox.Mode{sandbox.Auto, sandbox.Required} {
		layers, err := sandbox.Decide(sandbox.Need{Mode: mode, Binary: self(t)}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if layers.Cloneflags() == 0 {
			t.Error("no namespaces")
		}
		err = layers.WithoutNamespaces(os.ErrPermission)
		if r := layers.Report(); layers.Cloneflags() != 0 || !strings.Contains(r.Lacks(), "namespaces: the kernel refuses") {
			t.Errorf("missing: %s", r.Lacks())
		}
		if (err != nil) != (mode == sandbox.Required) {
			t.Errorf("%s: got %v", mode, err)
		}
	}
}
