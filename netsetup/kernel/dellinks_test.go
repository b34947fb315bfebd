package kernel

import (
	"os"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// A bridge and its taps end together, their names are free at once, and other programs'
// links stay.
func TestDelLinks(t *testing.T) {
	lab.Require(t, lab.Tun)
	lab.Run(t, func(t *testing.T) {
		h := newHost(t)
		bridge := step.AddBridge{Name: "qn-dev", MAC: []byte{2, 0, 0, 0, 0, 1}, MTU: 1500, Alias: "qnet:dev"}
		steps := []step.Step{bridge, step.SetUp{Link: bridge.Name}}
		for _, tap := range []string{"qnweb0", "qnweb1", "qndb0"} {
			steps = append(steps, step.AddTap{Name: tap, Alias: "qnet:dev/" + tap, MTU: 1500}, step.SetPort{Link: tap, Bridge: bridge.Name}, step.SetUp{Link: tap})
		}
		lab.Sh(t, "ip link add stranger type bridge; ip link set stranger group 77")
		before := lab.Sh(t, "ip -br link")
		for range 3 {
			if err := apply.Do(t.Context(), h.Kernel(), steps, nil); err != nil {
				t.Fatal(err)
			}
			if err := apply.Undo(t.Context(), h.Kernel(), steps); err != nil {
				t.Fatal(err)
			}
			if entries, _ := os.ReadDir("/sys/class/net"); len(entries) != 2 {
				t.Errorf("sysfs has %v", entries)
			}
			if after := lab.Sh(t, "ip -br link"); after != before {
				t.Errorf("before:\n%safter:\n%s", before, after)
			}
		}
		if got := lab.Sh(t, "ip link show group 77"); !strings.Contains(got, "stranger") {
			t.Errorf("stranger is in no group any more: %s", got)
		}
		if err := h.DelLinks(t.Context(), []string{"qn-dev", "none"}); err != nil {
			t.Errorf("links that are gone: %v", err)
		}
	})
}
