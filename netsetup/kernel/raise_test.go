package kernel

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// Raised routes go after all others, and Undo restores them exactly: by netlink, by the
// commands that the step shows, and from a journal.
func TestRaiseMetrics(t *testing.T) {
	lab.Run(t, func(t *testing.T) {
		lab.Uplink(t)
		lab.Sh(t, "ip link add lan0 type veth peer name lan1; ip link set lan0 addrgenmode none; ip link set lan1 addrgenmode none")
		lab.Sh(t, rich)
		lab.Sh(t, "ip route add default via 198.51.100.1 metric 600; ip addr add 192.0.2.99/24 dev lan0 metric 600")
		lab.Sh(t, `for r in "via 192.0.2.7 dev eth0" "dev eth0 scope link src 192.0.2.10 mtu 1400" "dev eth0 scope link" "dev lan0" "via 192.0.2.8 dev eth0" "dev eth0 scope link mtu 1300"; do
	ip route append 198.18.0.0/17 $r
done`) // which tie
		lab.Eventually(t, 5*time.Second, "IPv6 addresses are checked", func() bool { return lab.Sh(t, "ip -6 addr show tentative") == "" })
		host := newHost(t)
		before := kernelState(t)
		way := func(want string) {
			t.Helper()
			for _, to := range []string{"203.0.113.1", "192.0.2.200"} {
				if out := lab.Sh(t, "ip route get "+to); !strings.Contains(out, "dev "+want) {
					t.Errorf("want %s: %s", want, out)
				}
			}
		}
		way("eth0")
		eth0, _, err := host.Link(t.Context(), "eth0")
		if err != nil {
			t.Fatal(err)
		}
		change, err := host.Raisable(eth0)
		if err != nil || len(change.Held.Routes) < 12 {
			t.Fatalf("%d routes, %v", len(change.Held.Routes), err)
		}
		if err := change.Do(t.Context(), host.Kernel()); err != nil {
			t.Fatal(err)
		}
		way("lan0")
		raised := kernelState(t)
		if again, err := host.Raisable(eth0); err != nil || len(again.Held.Routes) != 0 {
			t.Errorf("%d routes would be raised twice: %v", len(again.Held.Routes), err)
		}
		var read step.List
		b, err := json.Marshal(step.List{change})
		if err == nil {
			err = json.Unmarshal(b, &read)
		}
		if err != nil || !reflect.DeepEqual(read, step.List{change}) {
			t.Errorf("from the journal: %+v, %v", read, err)
		}
		for range 2 { // the second time nothing is to be done
			if err := apply.Undo(t.Context(), host.Kernel(), read); err != nil {
				t.Fatal(err)
			}
			becomes(t, before, "-: before, +: after Undo")
		}
		lab.Sh(t, change.String())
		becomes(t, raised, "-: by netlink, +: by the printed commands")
		lab.Sh(t, change.UndoString())
		becomes(t, before, "-: before, +: after the undo commands")
	})
}
