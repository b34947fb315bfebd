package rtnl

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
)

// Routes are walked one by one, in the kernel's order, and a lookup finds the kernel's choice.
func TestWalkRoutes(t *testing.T) {
	lab.Require(t, lab.Program("ip"))
	lab.Run(t, func(t *testing.T) {
		lab.Uplink(t)
		lab.Sh(t, `ip route add 198.51.100.0/24 via 192.0.2.1 table 77 metric 5 tos 4
ip route add 203.0.113.0/24 nexthop via 192.0.2.1 nexthop via 192.0.2.2
ip route add blackhole 198.18.0.0/15
ip nexthop add id 9 via 192.0.2.1 dev eth0; ip route add 198.51.0.0/16 nhid 9
for i in $(seq 3000); do echo "route add 20.$((i / 256)).$((i % 256)).0/24 via 192.0.2.1"; done | ip -batch -`)
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		many := 0
		found := map[string]Route{}
		err = WalkRoutes(unix.AF_INET, func(r Route) {
			if r.Dst().Addr().As4()[0] == 20 {
				many++
				return
			}
			found[r.Dst().String()] = r.Clone()
		})
		if err != nil || many != 3000 {
			t.Fatalf("%d routes, %v", many, err)
		}
		tos := found["198.51.100.0/24"]
		if tos.Table() != 77 || tos.Metric() != 5 || tos.TOS() != 4 || tos.Link() != eth0.Index || tos.Dead() || tos.Nexthop() != 0 {
			t.Errorf("got %+v", tos)
		}
		if both := found["203.0.113.0/24"]; both.Link() != 0 || len(both.Hops()) != 2 || !both.Uses(eth0.Index) {
			t.Errorf("several ways: %+v", both)
		}
		if by := found["198.51.0.0/16"]; by.Nexthop() != 9 || by.Link() != eth0.Index {
			t.Errorf("by a nexthop object: %d, link %d", by.Nexthop(), by.Link())
		}
		c, err := Dial()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		own := netip.MustParseAddr("192.0.2.10")
		if r, err := c.RouteTo(own, netip.MustParseAddr("20.1.1.1")); err != nil || r.Link() != eth0.Index || r.Gateway().String() != "192.0.2.1" {
			t.Errorf("lookup: %+v, %v", r, err)
		}
		if _, err := c.RouteTo(own, netip.MustParseAddr("198.18.0.1")); !errors.Is(err, unix.EINVAL) {
			t.Errorf("lookup of a blackhole: %v", err)
		}
	})
	if err := WalkRoutes(unix.AF_INET, func(Route) {}); err != nil {
		t.Error(err)
	}
}

// A dump ends with its last message, with the kernel's error, or where it makes no sense.
func TestDatagrams(t *testing.T) {
	message := func(kind, flags uint16, body ...byte) []byte {
		b := make([]byte, unix.NLMSG_HDRLEN)
		binary.NativeEndian.PutUint32(b, uint32(len(b)+len(body)))
		binary.NativeEndian.PutUint16(b[4:], kind)
		binary.NativeEndian.PutUint16(b[6:], flags)
		b = append(b, body...)
		return append(b, make([]byte, align4(len(b))-len(b))...)
	}
	route := message(unix.RTM_NEWROUTE, unix.NLM_F_MULTI, 1, 2, 3)
	errno := binary.NativeEndian.AppendUint32(nil, ^uint32(unix.EBUSY)+1)
	for _, c := range []struct {
		name  string
		data  []byte
		got   int
		done  bool
		whole bool
		err   error
	}{
		{"two routes", slices.Concat(route, route), 2, false, true, nil},
		{"the last one", slices.Concat(route, message(unix.NLMSG_DONE, 0, 0, 0, 0, 0), route), 1, true, true, nil},
		{"interrupted", message(unix.RTM_NEWROUTE, unix.NLM_F_DUMP_INTR, 1), 1, false, false, nil},
		{"nothing", message(unix.NLMSG_NOOP, 0), 0, false, true, nil},
		{"an error", message(unix.NLMSG_ERROR, 0, errno...), 0, true, true, unix.EBUSY},
		{"an error at the end", message(unix.NLMSG_DONE, 0, errno...), 0, true, true, unix.EBUSY},
		{"a length too small", make([]byte, 20), 0, false, true, unix.EBADMSG},
		{"cut off", route[:17], 0, false, true, unix.EBADMSG},
		{"empty", nil, 0, false, true, nil},
	} {
		got, whole := 0, true
		done, err := datagram(c.data, func(Message) { got++ }, &whole)
		if got != c.got || done != c.done || whole != c.whole || !errors.Is(err, c.err) {
			t.Errorf("%s: %d messages, done %t, whole %t, %v", c.name, got, done, whole, err)
		}
	}
}
