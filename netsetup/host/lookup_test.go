package host

import (
	"bufio"
	"strings"
	"testing"
)

func TestNeighborFailedReadsTheTable(t *testing.T) {
	const table = `IP address       HW type     Flags       HW address            Mask     Device
192.0.2.1        0x1         0x2         02:00:00:00:00:01     *        eth0
192.0.2.2        0x1         0x0         00:00:00:00:00:00     *        eth0
192.0.2.3        0x1         0x0         00:00:00:00:00:00     *        eth0
192.0.2.3        0x1         0x2         02:00:00:00:00:03     *        eth1
`
	for a, want := range map[string]bool{"192.0.2.1": false, "192.0.2.2": true, "192.0.2.3": false, "192.0.2.4": false} {
		if got := neighborFailed(bufio.NewScanner(strings.NewReader(table)), addr(a)); got != want {
			t.Errorf("%s: got %t, want %t", a, got, want)
		}
	}
}
