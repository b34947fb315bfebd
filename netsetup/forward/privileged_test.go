package forward_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/forward"
	"github.com/qnet-vm/qnet/netsetup/host"
)

// A user without rights gets no port by the keeper that the kernel would refuse it.
func TestLowPortsAreRoots(t *testing.T) {
	lab.Run(t, func(t *testing.T) {
		for _, c := range []struct {
			start, port, uid int
			may              bool
		}{
			{1024, 80, 0, true},
			{1024, 80, 1000, false},
			{1024, 1023, 1000, false},
			{1024, 1024, 1000, true},
			{80, 80, 1000, true},
			{80, 79, 1000, false},
		} {
			lab.Sh(t, "sysctl -qw net.ipv4.ip_unprivileged_port_start="+strconv.Itoa(c.start))
			err := forward.MayBind(uint16(c.port), uint32(c.uid))
			if (err == nil) != c.may || err != nil && (!errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), strconv.Itoa(c.start))) {
				t.Errorf("%+v: %v", c, err)
			}
		}
	})
}
