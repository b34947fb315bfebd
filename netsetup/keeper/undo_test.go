package keeper_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
)

// leftBehind checks that the error says what the keeper could not undo.
func leftBehind(t *testing.T, err error, words string) {
	t.Helper()
	if !errors.Is(err, host.ErrLeft) || !strings.Contains(err.Error(), words) {
		t.Errorf("got %v, want ErrLeft with %q", err, words)
	}
}

// collected checks that `qnet gc` undoes the network that is left.
func collected(t *testing.T, o Options) {
	t.Helper()
	if left, err := keeper.Left(o.RunDir); err != nil || len(left) != 1 {
		t.Errorf("left: %q, %v", left, err)
	}
	removed, err := Collect(t.Context(), o)
	if err != nil || len(removed) != 1 || !strings.Contains(removed[0], "network dev") {
		t.Errorf("gc removed %q, %v", removed, err)
	}
}

// The supervisor that leaves last gets to know that the network could not be undone,
// and gc undoes it later.
func TestFailedUndoIsTold(t *testing.T) {
	n := Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}
	t.Run("failpoint", func(t *testing.T) {
		inLab(t, func(t *testing.T, o Options) {
			mend := failAt(t, o, "undid AddAddr")
			r := mustJoin(t, o, n, "web", port(1))
			leftBehind(t, r.Leave(t.Context()), "ip addr add 10.77.0.1/24")
			mend()
			r.Close()
			collected(t, o)
		})
	})
	t.Run("read-only sysctls", func(t *testing.T) {
		inLab(t, func(t *testing.T, o Options) {
			r := mustJoin(t, o, n, "web", port(1))
			lab.Sh(t, "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys")
			r.Ending() // as a supervisor does while QEMU ends
			err := r.Leave(t.Context())
			leftBehind(t, err, "net/ipv4/conf/eth0/forwarding")
			if again := strings.Count(err.Error(), "conf/eth0/forwarding=1\""); again > 1 {
				t.Errorf("said %d times: %v", again, err)
			}
			r.Close()
			_, err = Collect(t.Context(), o)
			leftBehind(t, err, "net/ipv4/conf/eth0/forwarding")
			lab.Sh(t, "umount /proc/sys")
			collected(t, o)
		})
	})
}

// A VM whose ports could not be undone gets to know that; the network's end tries
// again, and then the last VM gets to know how that went.
func TestFailedUndoOfPorts(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		n := Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}
		mend := failAt(t, o, "undid SetPort")
		web := mustJoin(t, o, n, "web", port(1))
		db := mustJoin(t, o, n, "db", port(2))
		leftBehind(t, web.Leave(t.Context()), "ip link set qnweb0 master qn-dev")
		web.Close()
		mend()
		mustLeave(t, db)
	})
}
