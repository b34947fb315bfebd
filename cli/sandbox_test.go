package cli

import (
	"strings"
	"testing"
)

// What confines a VM's QEMU is what ps shows, and what the kernel says of the process.
func TestSandbox(t *testing.T) {
	inLab(t, func(l *testHost) {
		l.refused(exitUsage, []string{`--sandbox: got "most", allowed: auto, required, off`}, "run", "-d", "--sandbox", "most", l.profile("a", idle))
		l.must("run", "-d", "--sandbox", "required", l.profile("a", idle))
		l.must("run", "-d", "--sandbox", "off", l.profile("b", idle))
		if c := l.state("a").Confined; c == nil || len(c.Missing) != 0 || c.Mode != "required" || c.UID == 0 || c.UID == l.state("b").Confined.UID {
			t.Errorf("a: %+v; b: %+v", c, l.state("b").Confined)
		}
		out := l.must("ps", "--security")
		for _, want := range []string{"NAME", "filter, files (Landlock ", "namespaces, limits", "files: --sandbox=off; namespaces: --sandbox=off"} {
			if !strings.Contains(out, want) {
				t.Errorf("ps --security lacks %q:\n%s", want, out)
			}
		}
		// The mode is the run's: the next one is confined again.
		l.must("stop", "--force", "b")
		l.must("run", "-d", l.profile("b", idle))
		if c := l.state("b").Confined; c == nil || len(c.Missing) != 0 {
			t.Errorf("started again: %+v", c)
		}
		// Arguments of the user's own may name any file, and so need more.
		l.must("stop", "--force", "a")
		l.refused(exitIncapable, []string{"--sandbox=required", "behind --", "--sandbox=auto starts without"}, "run", "-d", "--sandbox", "required", l.profile("a", idle), "--", "-device", "virtio-balloon-pci")
		l.must("stop", "--force", "b")
	})
}
