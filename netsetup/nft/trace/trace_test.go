package trace

import (
	"net"
	"testing"
	"time"

	"github.com/google/nftables/binaryutil"
	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nltest"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/nft"
)

// A packet that a rule of ours marks is followed to the rule that drops it.
func TestTraceNamesTheRule(t *testing.T) { lab.Run(t, traceNamesTheRule) }

func traceNamesTheRule(t *testing.T) {
	lab.Sh(t, "ip link set lo up; nft -f - <<'EOF'\n"+`table inet foreign {
	chain first { type filter hook input priority 0; udp dport 9 jump second; }
	chain second { counter; ip protocol udp drop; }
}
table inet late { chain out { type filter hook output priority 0; policy drop; udp dport 7 accept; udp dport 9 accept; }; }
EOF`)
	c, err := nft.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	mark := nft.Table{Family: nft.INet, Name: "qnet_t", Comment: "qnet:t", Chains: []nft.Chain{
		{Name: "from_host", Type: "filter", Hook: nft.Output, Priority: -1000, Policy: nft.Accept, Rules: []nft.Rule{{Do: nft.TracePacket}}},
	}}
	if err := c.Add(mark); err != nil {
		t.Fatal(err)
	}
	tracer, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	defer tracer.Close()
	for _, port := range []int{9, 11} {
		udp, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			t.Fatal(err)
		}
		udp.Write([]byte("x")) // which the policy refuses for port 11
		udp.Close()
	}
	var drops []Event
	for end := time.Now().Add(2 * time.Second); len(drops) < 2 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		drops = nil
		events, _ := tracer.Events()
		for _, e := range events {
			if e.Verdict == Dropped {
				drops = append(drops, e)
			}
		}
	}
	if len(drops) != 2 {
		t.Fatalf("drops: %+v", drops)
	}
	rule, policy := drops[0], drops[1]
	if rule.Family != nft.INet || rule.Table != "foreign" || rule.Chain != "second" || rule.Handle == 0 || rule.Policy || rule.In != 1 {
		t.Errorf("rule: %+v", rule)
	}
	if len(rule.Network) < 20 || len(rule.Transport) < 4 || rule.Transport[3] != 9 {
		t.Errorf("headers: %x %x", rule.Network, rule.Transport)
	}
	if policy.Table != "late" || policy.Chain != "out" || !policy.Policy || policy.Out != 1 {
		t.Errorf("policy: %+v", policy)
	}
}

// event is a message of a trace.
func event(id uint32, attrs ...netlink.Attribute) netlink.Message {
	attrs = append([]netlink.Attribute{{Type: unix.NFTA_TRACE_ID, Data: binaryutil.BigEndian.PutUint32(id)}}, attrs...)
	return netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_TRACE},
		Data:   append([]byte{unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0}, nltest.MustMarshalAttributes(attrs)...),
	}
}

func TestTracer(t *testing.T) {
	text := func(kind uint16, s string) netlink.Attribute {
		return netlink.Attribute{Type: kind, Data: []byte(s + "\x00")}
	}
	word := func(kind uint16, v uint32) netlink.Attribute {
		return netlink.Attribute{Type: kind, Data: binaryutil.BigEndian.PutUint32(v)}
	}
	verdict := func(code int32) netlink.Attribute {
		return netlink.Attribute{
			Type: unix.NLA_F_NESTED | unix.NFTA_TRACE_VERDICT,
			Data: nltest.MustMarshalAttributes([]netlink.Attribute{word(unix.NFTA_VERDICT_CODE, uint32(code))}),
		}
	}
	batches := [][]netlink.Message{
		{
			event(7, text(unix.NFTA_TRACE_TABLE, "foreign"), text(unix.NFTA_TRACE_CHAIN, "first"), word(unix.NFTA_TRACE_IIF, 2), word(unix.NFTA_TRACE_OIF, 3),
				netlink.Attribute{Type: unix.NFTA_TRACE_NETWORK_HEADER, Data: []byte{0x45, 1}}, netlink.Attribute{Type: unix.NFTA_TRACE_TRANSPORT_HEADER, Data: []byte{9}},
				netlink.Attribute{Type: unix.NFTA_TRACE_RULE_HANDLE, Data: binaryutil.BigEndian.PutUint64(12)}, verdict(-3)),
			{Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWTABLE}, Data: make([]byte, 8)},    // no trace
			{Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_TRACE}, Data: []byte{1, 0, 0, 0, 9}}, // cut off
		},
		{event(7, text(unix.NFTA_TRACE_CHAIN, "first"), word(unix.NFTA_TRACE_POLICY, 0))},
		{event(8, netlink.Attribute{Type: unix.NFTA_TRACE_VERDICT, Data: []byte{1}}, netlink.Attribute{Type: unix.NFTA_TRACE_IIF, Data: []byte{1}})},
	}
	ended := make(chan struct{})
	tracer := &Tracer{heads: map[uint32]Event{}, conn: nltest.Dial(func([]netlink.Message) ([]netlink.Message, error) {
		if len(batches) == 0 {
			return nil, unix.EBADF
		}
		next := batches[0]
		batches = batches[1:]
		if next == nil {
			return nil, unix.ENOBUFS
		}
		return next, nil
	})}
	batches = append(batches, nil)
	go func() { tracer.listen(); close(ended) }()
	<-ended
	events, lost := tracer.Events()
	if len(events) != 3 || !lost {
		t.Fatalf("%d events, lost %v: %+v", len(events), lost, events)
	}
	first, policy, malformed := events[0], events[1], events[2]
	if first.Family != nft.INet || first.Table != "foreign" || first.Chain != "first" || first.Handle != 12 || first.Verdict != Jumped || first.In != 2 || first.Out != 3 {
		t.Errorf("rule: %+v", first)
	}
	if !policy.Policy || policy.Verdict != Dropped || policy.In != 2 || len(policy.Network) != 2 || len(policy.Transport) != 1 {
		t.Errorf("the policy has the headers of the packet's first event: %+v", policy)
	}
	if malformed.Verdict != "" || malformed.In != 0 {
		t.Errorf("malformed: %+v", malformed)
	}
	for range maxTrace {
		tracer.add(event(9))
	}
	if events, _ := tracer.Events(); len(events) != maxTrace {
		t.Errorf("%d events are kept", len(events))
	}
}
