package traced_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/step/steptest"
	"github.com/qnet-vm/qnet/netsetup/traced"
)

// A trace has tables of its own, which bear the port's mark and drop nothing.
func TestSteps(t *testing.T) {
	steps := traced.Steps("qnprobe0", "qnet:dev/probe/0", netip.MustParseAddr("10.1.2.3"), []netip.Addr{netip.MustParseAddr("192.0.2.53")})
	words := steptest.Script(steps)
	for _, want := range []string{
		"table netdev qnet_trace_qnprobe0", "table bridge qnet_trace_qnprobe0", "table inet qnet_trace_qnprobe0", `comment "qnet:dev/probe/0"`,
		`iifname "qnprobe0" meta nftrace set 1`, "ip saddr 192.0.2.53 meta nftrace set 1", "ip daddr 10.1.2.3 meta nftrace set 1",
	} {
		if !strings.Contains(words, want) {
			t.Errorf("no %q in\n%s", want, words)
		}
	}
	if len(steps) != 3 || strings.Contains(words, "drop") {
		t.Errorf("got\n%s", words)
	}
	if words := steptest.Script(traced.Steps("qnprobe0", "qnet:dev/probe/0", netip.Addr{}, nil)); strings.Contains(words, "addr") {
		t.Errorf("without addresses:\n%s", words)
	}
}
