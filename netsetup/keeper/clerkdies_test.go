package keeper_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
)

// obeyOrder makes a steward or clerk of TestClerkDiesAtEachPoint act at its failpoint.
func obeyOrder(kind string) {
	lab.ObeyOrder(func(name string) string { return kind + ":" + strings.ReplaceAll(name, " ", "_") }, func(action string) error {
		if action == "panic" {
			panic("failpoint")
		}
		return errors.New("failpoint")
	})
}

// Wherever a steward or a clerk fails, panics or is killed, the guest gets its lease and names,
// and nothing is left at the end.
func TestClerkDiesAtEachPoint(t *testing.T) {
	for _, point := range []string{
		"steward:runs", "steward:started_a_clerk", "steward:saw_the_end_of_a_clerk",
		"clerk:knows_its_network", "clerk:gave_up_its_rights", "clerk:serves",
	} {
		for _, action := range []string{"error", "panic", "kill"} {
			t.Run(strings.ReplaceAll(point, ":", "_")+"_"+action, func(t *testing.T) {
				inLab(t, func(t *testing.T, o Options) {
					kind, name, _ := strings.Cut(point, ":")
					acted := make(chan struct{})
					err := lab.OrderClerks(kind+":"+kind+"_"+name+" "+action, func(what string) {
						for _, pid := range processes(t, "--"+kind) {
							if what == "kill" {
								unix.Kill(pid, unix.SIGKILL)
							}
						}
						close(acted)
					})
					if err != nil {
						t.Fatal(err)
					}
					o.Stewards = &keeper.Stewards{} // which start when the VM runs
					r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
					if err := o.Stewards.Start(); err != nil {
						t.Fatal(err)
					}
					natGuest(t)
					c := frames(t, "guest", "eth0")
					if strings.HasSuffix(point, "end_of_a_clerk") {
						unix.Kill(clerkOf(t), unix.SIGKILL)
					}
					select {
					case <-acted:
					case <-time.After(10 * time.Second):
						t.Fatal("the point was not met")
					}
					mac := r.Ports()[0].MAC
					if a := renewed(t, c, mac); a != r.Ports()[0].Address.String() {
						t.Errorf("the guest gets %s, want %s", a, r.Ports()[0].Address)
					}
					lab.Eventually(t, 10*time.Second, "an answer", func() bool { return resolves(t, "guest", "udp4", "", "10.77.0.1", "web.qnet.", time.Second) })
					lab.Sh(t, "ip link del vguest; ip netns del guest")
					mustLeave(t, r)
					lab.Eventually(t, 5*time.Second, "the end of all", func() bool { return len(processes(t, "--clerk"))+len(processes(t, "--steward")) == 0 })
				})
			})
		}
	}
}
