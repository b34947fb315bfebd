package rtnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/dump"
	"github.com/qnet-vm/qnet/internal/lab"
)

// fakeSocket answers like the kernel: requests with what is queued, lists with lists.
type fakeSocket struct {
	lists   map[netlink.HeaderType][][]netlink.Message // one for each call; the last stays
	asked   []netlink.Message
	batches []int   // how many requests each call sent
	answers []error // of requests, in their order; nil after the last
	sendErr error
}

func (s *fakeSocket) Execute(m netlink.Message) ([]netlink.Message, error) {
	s.asked = append(s.asked, m)
	lists := s.lists[m.Header.Type]
	if len(lists) == 0 {
		return nil, &netlink.OpError{Op: "receive", Err: unix.ENODEV}
	}
	if len(lists) > 1 {
		s.lists[m.Header.Type] = lists[1:]
	}
	return lists[0], nil
}

func (s *fakeSocket) SendMessages(list []netlink.Message) ([]netlink.Message, error) {
	s.batches = append(s.batches, len(list))
	s.asked = append(s.asked, list...)
	return list, s.sendErr
}

func (s *fakeSocket) Receive() ([]netlink.Message, error) {
	if len(s.answers) == 0 {
		return nil, nil
	}
	err := s.answers[0]
	s.answers = s.answers[1:]
	return nil, err
}

func (s *fakeSocket) Close() error { return nil }

func messages[T any](list []T, message func(T) Message) []netlink.Message {
	var all []netlink.Message
	for _, m := range list {
		all = append(all, netlink.Message{Data: message(m)})
	}
	return all
}

func TestSend(t *testing.T) {
	r := load(t).route(t, "0.0.0.0/0", 7)
	kernel := func(errno error, text string) error {
		return &netlink.OpError{Op: "receive", Err: errno, Message: text}
	}
	for _, c := range []struct {
		name    string
		request Request
		answer  error
		want    string
	}{
		{"done", AppendRoute("d0", r), nil, ""},
		{"there", AppendRoute("d0", r), kernel(unix.EEXIST, ""), ""},
		{"gone", DelRoute("d0", r), kernel(unix.ESRCH, ""), ""},
		{"refused", DelRoute("d0", r), kernel(unix.EPERM, ""), `delete route 0.0.0.0/0 of "d0": operation not permitted`},
		{"explained", PrependRoute("d0", r), kernel(unix.EINVAL, "Nexthop has invalid gateway"), `add route 0.0.0.0/0 to "d0": invalid argument (Nexthop has invalid gateway)`},
		{"optional", ReplaceRoute("d0", r).Optional(), kernel(unix.EPERM, ""), ""},
	} {
		s := &fakeSocket{answers: []error{c.answer}}
		err := (&Conn{s}).Send([]Request{c.request})
		if (err == nil) != (c.want == "") || err != nil && err.Error() != c.want {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
		if c.answer != nil && c.want != "" && !errors.Is(err, errors.Unwrap(c.answer)) {
			t.Errorf("%s: %v is not the kernel's error", c.name, err)
		}
		if got := s.asked[0].Header.Flags; got&(netlink.Request|netlink.Acknowledge) != netlink.Request|netlink.Acknowledge {
			t.Errorf("%s: flags %x", c.name, got)
		}
	}
}

// A batch goes on after a failure, and in as many calls as it needs.
func TestSendManyRequests(t *testing.T) {
	long := Route{Append(slices.Clone(load(t).route(t, "0.0.0.0/0", 7).Message), Attr{99, make([]byte, 60000)})}
	var batch []Request
	for range 20 {
		batch = append(batch, DelRoute("d0", long))
	}
	s := &fakeSocket{answers: []error{unix.EPERM, nil, unix.EBUSY}}
	err := (&Conn{s}).Send(batch)
	if !slices.Equal(s.batches, []int{18, 2}) {
		t.Errorf("sent %v requests", s.batches)
	}
	if !errors.Is(err, unix.EPERM) || !errors.Is(err, unix.EBUSY) || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("got %v", err)
	}
	s = &fakeSocket{sendErr: unix.ENOBUFS}
	if err := (&Conn{s}).Send(batch); !errors.Is(err, unix.ENOBUFS) || len(s.batches) != 1 {
		t.Errorf("sent %v, got %v", s.batches, err)
	}
	if err := (&Conn{s}).Send(nil); err != nil {
		t.Errorf("of nothing: %v", err)
	}
}

func TestLists(t *testing.T) {
	c := load(t)
	s := &fakeSocket{lists: map[netlink.HeaderType][][]netlink.Message{
		unix.RTM_GETADDR:  {append(messages(c.Addresses, func(a Address) Message { return a.Message }), netlink.Message{Data: []byte{2, 24}})},
		unix.RTM_GETNEIGH: {messages(c.Neighbors, func(n Neighbor) Message { return n.Message })},
		unix.RTM_GETRULE:  {messages(c.Rules, func(r Rule) Message { return r.Message })},
	}}
	conn := &Conn{s}
	if got, err := conn.Addresses(c.Link); err != nil || len(got) != len(c.Addresses) {
		t.Errorf("%d addresses, %v; want %d", len(got), err, len(c.Addresses))
	}
	if got, err := conn.Addresses(c.Link + 1000); err != nil || len(got) != 0 {
		t.Errorf("%d addresses of another link, %v", len(got), err)
	}
	if got, err := conn.Rules(unix.AF_INET); err != nil || len(got) != len(c.Rules) {
		t.Errorf("%d rules, %v; want %d", len(got), err, len(c.Rules))
	}
	v4, err := conn.Neighbors(unix.AF_INET)
	v6, err6 := conn.Neighbors(unix.AF_INET6)
	if err != nil || err6 != nil || len(v4)+len(v6) != len(c.Neighbors) {
		t.Errorf("%d and %d neighbors, %v, %v; want %d", len(v4), len(v6), err, err6, len(c.Neighbors))
	}
	if family := s.asked[len(s.asked)-1].Data[0]; family != unix.AF_INET6 {
		t.Errorf("asked for family %d", family)
	}
}

// A list that changed while the kernel made it is asked for again.
func TestInterruptedList(t *testing.T) {
	cut := []netlink.Message{{Header: netlink.Header{Flags: unix.NLM_F_DUMP_INTR}, Data: make([]byte, routeHeader)}}
	whole := []netlink.Message{{Data: make([]byte, routeHeader)}, {Data: make([]byte, routeHeader)}}
	s := &fakeSocket{lists: map[netlink.HeaderType][][]netlink.Message{unix.RTM_GETRULE: {cut, cut, whole}}}
	if got, err := (&Conn{s}).Rules(unix.AF_INET); err != nil || len(got) != 2 || len(s.asked) != 3 {
		t.Errorf("%d rules after %d lists, %v", len(got), len(s.asked), err)
	}
	s = &fakeSocket{lists: map[netlink.HeaderType][][]netlink.Message{unix.RTM_GETRULE: {cut}}}
	if _, err := (&Conn{s}).Rules(unix.AF_INET); !errors.Is(err, dump.ErrInterrupted) {
		t.Errorf("a list that changes all the time: %v", err)
	}
	for name, list := range map[string]func(*Conn) error{
		"addresses":  func(c *Conn) error { _, err := c.Addresses(1); return err },
		"neighbors":  func(c *Conn) error { _, err := c.Neighbors(unix.AF_INET); return err },
		"forwarding": func(c *Conn) error { _, err := c.Forwarding(); return err },
	} {
		if err := list(&Conn{&fakeSocket{}}); !errors.Is(err, unix.ENODEV) || strings.Contains(err.Error(), "netlink receive") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestForwarding(t *testing.T) {
	entry := func(attrs ...Attr) netlink.Message {
		return netlink.Message{Data: Append([]byte{unix.AF_INET, 0, 0, 0}, attrs...)}
	}
	all := int32(-1) // NETCONFA_IFINDEX_ALL
	s := &fakeSocket{lists: map[netlink.HeaderType][][]netlink.Message{unix.RTM_GETNETCONF: {{
		entry(Uint32(netconfIndex, uint32(all)), Uint32(netconfForwarding, 1)),
		entry(Uint32(netconfIndex, 2), Uint32(netconfForwarding, 1)),
		entry(Uint32(netconfIndex, 3), Uint32(netconfForwarding, 0)),
		entry(Uint32(netconfIndex, 4)),
		{Data: []byte{2}},
	}}}}
	got, err := (&Conn{s}).Forwarding()
	if want := map[int]string{2: "1", 3: "0"}; err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestReadyAndHasLink(t *testing.T) {
	answer := func(flags uint32) *Conn {
		spec := Nest(unix.IFLA_AF_SPEC, Nest(unix.AF_INET6, Uint32(unix.IFLA_INET6_FLAGS, flags)))
		return &Conn{&fakeSocket{lists: map[netlink.HeaderType][][]netlink.Message{unix.RTM_GETLINK: {{{Data: linkMessage(2, spec)}}}}}}
	}
	if !answer(ifReady|1).Ready(2) || answer(1).Ready(2) || (&Conn{&fakeSocket{}}).Ready(2) {
		t.Error("Ready does not follow IF_READY")
	}
	if there, err := answer(0).HasLink(2); err != nil || !there {
		t.Errorf("a link: %t, %v", there, err)
	}
	if there, err := (&Conn{&fakeSocket{}}).HasLink(2); err != nil || there {
		t.Errorf("no link: %t, %v", there, err)
	}
}

// Requests change what their names say, in a namespace.
func TestLinkRequests(t *testing.T) {
	lab.Require(t, lab.Program("ip"))
	lab.Run(t, func(t *testing.T) {
		send := func(r Request) {
			t.Helper()
			if err := Send(r); err != nil {
				t.Fatal(err)
			}
		}
		add := AddLink("qn-dev", "bridge", []Attr{Uint32(unix.IFLA_MTU, 1400)}, []Attr{Uint32(unix.IFLA_BR_AGEING_TIME, 12300)})
		send(add)
		if err := Send(add); !errors.Is(err, unix.EEXIST) || err.Error() != `add bridge "qn-dev": file exists` {
			t.Errorf("again: %v", err)
		}
		lab.Sh(t, "ip link add d0 type veth peer name d1; ip -d link show qn-dev | grep -q 'ageing_time 12300'; ip link show qn-dev | grep -q 'mtu 1400'")
		index := func(name string) int {
			var i int
			fmt.Sscan(lab.Sh(t, "cat /sys/class/net/"+name+"/ifindex"), &i)
			return i
		}
		send(SetMaster("d0", index("d0"), index("qn-dev")))
		send(SetGenMode("d0", index("d0"), 1))
		send(SetLink("d0", Attr{unix.IFLA_IFALIAS, []byte("qnet:dev")}))
		send(SetGroup(index("d0"), 77))
		if got := lab.Sh(t, "ip -d link show group 77"); !strings.Contains(got, "master qn-dev") || !strings.Contains(got, "addrgenmode none") || !strings.Contains(got, "alias qnet:dev") {
			t.Errorf("got %s", got)
		}
		c, err := Dial()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		bridge := index("qn-dev")
		if there, err := c.HasLink(bridge); err != nil || !there {
			t.Errorf("before its end: %t, %v", there, err)
		}
		if f, err := c.Forwarding(); err != nil || f[bridge] != "0" {
			t.Errorf("forwarding %v, %v", f, err)
		}
		send(DelGroup(77))
		send(DelLink(bridge))
		if there, err := c.HasLink(bridge); err != nil || there {
			t.Errorf("after its end: %t, %v", there, err)
		}
	})
}

// What Linux encodes in the machine's byte order, the package does, too.
func TestUint32(t *testing.T) {
	if a := Uint32(1, 0x01020304); binary.NativeEndian.Uint32(a.Value) != 0x01020304 {
		t.Errorf("got %x", a.Value)
	}
}
