package kernel

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// A tap is made of files that came from elsewhere, with a queue for each.
func TestGivenTap(t *testing.T) {
	lab.Require(t, lab.Tun)
	lab.Run(t, func(t *testing.T) {
		h := newHost(t)
		var files []*os.File
		for range 2 {
			f, err := OpenTun()
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			files = append(files, f)
		}
		change := step.AddTap{Name: "qnweb0", Alias: "qnet:dev/web/0", MTU: 1400}
		// The second time, the files have the tap of a Host that died.
		for range 2 {
			if err := h.GiveTap(t.Context(), change.Name, files); err != nil {
				t.Fatal(err)
			}
			if err := apply.Do(t.Context(), h.Kernel(), []step.Step{change}, nil); err != nil {
				t.Fatal(err)
			}
			got := lab.Sh(t, "ip -d link show qnweb0")
			for _, want := range []string{"mtu 1400", "alias qnet:dev/web/0", "multi_queue numqueues 2", "persist off"} {
				if !strings.Contains(got, want) {
					t.Errorf("no %q in %s", want, got)
				}
			}
			if h.TakeTap(change.Name) != nil {
				t.Error("the Host keeps a file of its own")
			}
		}
		if err := apply.Undo(t.Context(), h.Kernel(), []step.Step{change}); err != nil || strings.Contains(lab.Sh(t, "ip link"), "qnweb0") {
			t.Errorf("the tap is still there: %v", err)
		}
		null, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer null.Close()
		if err := h.GiveTap(t.Context(), "qnweb0", []*os.File{null}); !errors.Is(err, host.ErrRefused) {
			t.Errorf("/dev/null: %v", err)
		}
	})
}

// A given tap outlives the process that has its files. It ends by DelLinks, and with the
// Host.
func TestGivenTapOutlivesItsFiles(t *testing.T) {
	lab.Require(t, lab.Tun)
	lab.Run(t, func(t *testing.T) {
		h := newHost(t)
		change := step.AddTap{Name: "qnweb0", Alias: "qnet:dev/web/0", MTU: 1500}
		there := func() bool { return strings.Contains(lab.Sh(t, "ip link"), change.Name) }
		for name, end := range map[string]func() error{
			"undo":      func() error { return apply.Undo(t.Context(), h.Kernel(), []step.Step{change}) },
			"the death": func() error { return h.Close() },
		} {
			f, err := OpenTun()
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(h.GiveTap(t.Context(), change.Name, []*os.File{f}), apply.Do(t.Context(), h.Kernel(), []step.Step{change}, nil), f.Close()); err != nil {
				t.Fatal(err)
			}
			if !there() {
				t.Errorf("%s: the tap went with its file", name)
			}
			if err := end(); err != nil || there() {
				t.Errorf("%s: the tap is still there: %v", name, err)
			}
			h = newHost(t)
		}
	})
}
