package keeper_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/profiles"
)

// A bridge takes 1,023 ports (BR_MAX_PORTS in the kernel's net/bridge/br_private.h);
// Join refuses the next VM with that reason, and leaves nothing.
func TestFullBridge(t *testing.T) {
	if !lab.Stress() {
		t.Skip("takes a thousand taps; make stress runs it")
	}
	inLab(t, func(t *testing.T, o Options) {
		n := Network{Name: "dev", Mode: profiles.Private}
		web := mustJoin(t, o, n, "web", port(1))
		var add, del strings.Builder
		for i := range 1022 {
			fmt.Fprintf(&add, "tuntap add f%d mode tap\nlink set f%d master qn-dev\n", i, i)
			fmt.Fprintf(&del, "link del f%d\n", i)
		}
		batch := func(commands string) {
			file := t.TempDir() + "/batch"
			if err := os.WriteFile(file, []byte(commands), 0o600); err != nil {
				t.Fatal(err)
			}
			lab.Sh(t, "timeout 300 ip -batch "+file)
		}
		batch(add.String())
		if _, err := Join(t.Context(), o, n, "db", port(2)); err == nil || !strings.Contains(err.Error(), "is full (1023 ports)") {
			t.Errorf("the 1,024th port: %v", err)
		}
		batch(del.String())
		mustLeave(t, web)
	})
}
