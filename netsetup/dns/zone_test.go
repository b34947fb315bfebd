package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

const testID = 0x1234

// testZone knows web, two-faced "dual", "bare" without addresses and "many" with
// more than fit into 512 bytes.
func testZone() zone {
	names := map[string][]netip.Addr{
		"web":  {netip.MustParseAddr("10.0.2.4")},
		"dual": {netip.MustParseAddr("10.0.2.5"), netip.MustParseAddr("fd00::5")},
		"bare": {},
		"k":    {netip.MustParseAddr("10.0.2.6")},
	}
	for i := range 60 {
		names["many"] = append(names["many"], netip.AddrFrom4([4]byte{10, 0, 2, byte(100 + i)}))
	}
	return zone{
		prefix:  netip.MustParsePrefix("10.0.2.0/24"),
		prefix6: netip.MustParsePrefix("fd00:0:0:a::/64"),
		lookup:  func(name string) []netip.Addr { return names[name] },
		reverse: func(a netip.Addr) string {
			switch a.String() {
			case "10.0.2.4", "fd00:0:0:a::4":
				return "web"
			case "10.0.2.9":
				return strings.Repeat("long.", 60)
			case "10.0.2.10":
				return "two..dots"
			}
			return ""
		},
	}
}

// message is a query to be changed before it is packed.
func message(name string, kind dnsmessage.Type) dnsmessage.Message {
	return dnsmessage.Message{
		Header: dnsmessage.Header{ID: testID, RecursionDesired: true},
		Questions: []dnsmessage.Question{
			{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET},
		},
	}
}

func withEDNS(m dnsmessage.Message, size int) dnsmessage.Message {
	var h dnsmessage.ResourceHeader
	if err := h.SetEDNS0(size, 0, true); err != nil {
		panic(err)
	}
	m.Additionals = append(m.Additionals, dnsmessage.Resource{Header: h, Body: &dnsmessage.OPTResource{}})
	return m
}

func packed(m dnsmessage.Message) []byte {
	raw, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return raw
}

func unpacked(t *testing.T, raw []byte) dnsmessage.Message {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(raw); err != nil {
		t.Fatalf("unpack %x: %v", raw, err)
	}
	return m
}

// summary is what a table compares: "NXDomain | records | authority".
func summary(m dnsmessage.Message) string {
	part := func(rs []dnsmessage.Resource) string {
		var words []string
		for _, r := range rs {
			words = append(words, record(r))
		}
		return strings.Join(words, " ")
	}
	return strings.TrimRight(fmt.Sprintf("%s|%s|%s", strings.TrimPrefix(m.RCode.String(), "RCode"),
		part(m.Answers), part(m.Authorities)), "|")
}

func record(r dnsmessage.Resource) string {
	owner := r.Header.Name.String()
	switch b := r.Body.(type) {
	case *dnsmessage.AResource:
		return owner + "=" + netip.AddrFrom4(b.A).String()
	case *dnsmessage.AAAAResource:
		return owner + "=" + netip.AddrFrom16(b.AAAA).String()
	case *dnsmessage.PTRResource:
		return owner + "=" + b.PTR.String()
	case *dnsmessage.SOAResource:
		return owner + " SOA"
	default:
		return fmt.Sprintf("%s %s", owner, r.Header.Type)
	}
}

// net6 is the reverse zone of fd00:0:0:a::/64.
const net6 = "a.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa."

func zeros(n int) string { return strings.Repeat("0.", n) }

// Without IPv6 its reverse names are the host's name servers'.
func TestZoneWithoutIPv6(t *testing.T) {
	z := testZone()
	z.prefix6 = netip.Prefix{}
	if what, _, _ := z.answer(packed(message("4."+zeros(15)+net6, dnsmessage.TypePTR)), overUDP); what != forward {
		t.Errorf("got %v", what)
	}
}

// forwarded is what zoneAnswers have for a question that the host's name servers answer.
const forwarded = "forwarded"

type zoneAnswer struct {
	name string
	kind dnsmessage.Type
	want string
}

func TestZoneAnswersOfIPv6(t *testing.T) {
	answersOf(t, []zoneAnswer{
		{"4." + zeros(15) + net6, dnsmessage.TypePTR, "Success|4." + zeros(15) + net6 + "=web.qnet."},
		{"4." + zeros(15) + strings.ToUpper(net6), dnsmessage.TypePTR, "Success|4." + zeros(15) + strings.ToUpper(net6) + "=web.qnet."},
		{"5." + zeros(15) + net6, dnsmessage.TypePTR, "NameError||" + net6 + " SOA"},
		{"4." + zeros(15) + net6, dnsmessage.TypeAAAA, "Success||" + net6 + " SOA"},
		{net6, dnsmessage.TypeSOA, "Success|" + net6 + " SOA"},
		{"0.0." + net6, dnsmessage.TypePTR, "Success||" + net6 + " SOA"},
		{"04." + zeros(15) + net6, dnsmessage.TypePTR, "NameError||" + net6 + " SOA"},
		{"g." + zeros(15) + net6, dnsmessage.TypePTR, "NameError||" + net6 + " SOA"},
		{"4." + zeros(16) + net6, dnsmessage.TypePTR, "NameError||" + net6 + " SOA"},
		{"lb._dns-sd._udp." + net6, dnsmessage.TypePTR, "NameError||" + net6 + " SOA"},
		{"4." + zeros(15) + "b." + net6[2:], dnsmessage.TypePTR, forwarded},
		{net6[2:], dnsmessage.TypePTR, forwarded},
		{"ip6.arpa.", dnsmessage.TypeNS, forwarded},
	})
}

func TestZoneAnswers(t *testing.T) {
	answersOf(t, []zoneAnswer{
		{"web.qnet.", dnsmessage.TypeA, "Success|web.qnet.=10.0.2.4"},
		{"wEb.QneT.", dnsmessage.TypeA, "Success|wEb.QneT.=10.0.2.4"},
		{"web.qnet.", dnsmessage.TypeAAAA, "Success||qnet. SOA"},
		{"web.qnet.", dnsmessage.TypeMX, "Success||qnet. SOA"},
		{"web.qnet.", dnsmessage.TypeALL, "Success|web.qnet.=10.0.2.4"},
		{"dual.qnet.", dnsmessage.TypeA, "Success|dual.qnet.=10.0.2.5"},
		{"dual.qnet.", dnsmessage.TypeAAAA, "Success|dual.qnet.=fd00::5"},
		{"bare.qnet.", dnsmessage.TypeA, "Success||qnet. SOA"},
		{"none.qnet.", dnsmessage.TypeA, "NameError||qnet. SOA"},
		{"none.qnet.", typeDS, "NameError||qnet. SOA"},
		{"a.web.qnet.", dnsmessage.TypeA, "NameError||qnet. SOA"},
		{"qnet.", dnsmessage.TypeA, "Success||qnet. SOA"},
		{"QNET.", dnsmessage.TypeSOA, "Success|qnet. SOA"},
		// The Kelvin sign is a k to Unicode, not to DNS.
		{"\u212a.qnet.", dnsmessage.TypeA, "NameError||qnet. SOA"},
		{"K.qnet.", dnsmessage.TypeA, "Success|K.qnet.=10.0.2.6"},
		{"web.qnet.example.", dnsmessage.TypeA, forwarded},
		{"webqnet.example.", dnsmessage.TypeA, forwarded},
		{"web.notqnet.", dnsmessage.TypeA, forwarded},

		{"Web.", dnsmessage.TypeA, "Success|Web.=10.0.2.4"},
		{"web.", dnsmessage.TypeAAAA, "Success||web. SOA"},
		{"none.", dnsmessage.TypeA, "NameError"},
		{"com.", dnsmessage.TypeA, "NameError"},
		{"com.", dnsmessage.TypeALL, "NameError"},
		{"com.", typeDS, forwarded},
		{".", dnsmessage.TypeNS, forwarded},
		{"example.org.", dnsmessage.TypeA, forwarded},

		{"4.2.0.10.in-addr.arpa.", dnsmessage.TypePTR, "Success|4.2.0.10.in-addr.arpa.=web.qnet."},
		{"4.2.0.10.IN-addr.ARPA.", dnsmessage.TypePTR, "Success|4.2.0.10.IN-addr.ARPA.=web.qnet."},
		{"4.2.0.10.in-addr.arpa.", dnsmessage.TypeA, "Success||2.0.10.in-addr.arpa. SOA"},
		{"5.2.0.10.in-addr.arpa.", dnsmessage.TypePTR, "NameError||2.0.10.in-addr.arpa. SOA"},
		{"2.0.10.in-addr.arpa.", dnsmessage.TypeSOA, "Success|2.0.10.in-addr.arpa. SOA"},
		{"2.0.10.in-addr.arpa.", dnsmessage.TypePTR, "Success||2.0.10.in-addr.arpa. SOA"},
		{"b._dns-sd._udp.0.2.0.10.in-addr.arpa.", dnsmessage.TypePTR, "NameError||2.0.10.in-addr.arpa. SOA"},
		{"4.4.2.0.10.in-addr.arpa.", dnsmessage.TypePTR, "NameError||2.0.10.in-addr.arpa. SOA"},
		{"04.2.0.10.in-addr.arpa.", dnsmessage.TypePTR, "NameError||2.0.10.in-addr.arpa. SOA"},
		{"300.2.0.10.in-addr.arpa.", dnsmessage.TypePTR, "NameError||2.0.10.in-addr.arpa. SOA"},
		{"9.2.0.10.in-addr.arpa.", dnsmessage.TypePTR, "ServerFailure"},
		{"10.2.0.10.in-addr.arpa.", dnsmessage.TypePTR, "ServerFailure"},
		{"4.3.0.10.in-addr.arpa.", dnsmessage.TypePTR, forwarded},
		{"0.10.in-addr.arpa.", dnsmessage.TypePTR, forwarded},
		{"in-addr.arpa.", dnsmessage.TypeNS, forwarded},
		{"x.in-addr.arpa.", dnsmessage.TypePTR, forwarded},
	})
}

// answers checks what the zone answers.
func answersOf(t *testing.T, list []zoneAnswer) {
	t.Helper()
	for _, test := range list {
		t.Run(test.name+"-"+test.kind.String(), func(t *testing.T) {
			what, _, raw := testZone().answer(packed(message(test.name, test.kind)), overUDP)
			if what == forward && test.want == forwarded {
				return
			}
			m := unpacked(t, raw)
			if got := summary(m); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if !m.Response || !m.Authoritative || !m.RecursionAvailable || !m.RecursionDesired || m.ID != testID {
				t.Errorf("got header %#v", m.Header)
			}
			for _, r := range slices.Concat(m.Answers, m.Authorities) {
				if r.Header.TTL != ttl {
					t.Errorf("got TTL %d, want %d", r.Header.TTL, ttl)
				}
			}
		})
	}
}

// Where the prefix ends within an octet, the zone we name is still all ours.
func TestReverseZoneWithinOctet(t *testing.T) {
	z := testZone()
	z.prefix = netip.MustParsePrefix("10.0.2.64/26")
	for name, want := range map[string]string{
		"65.2.0.10.in-addr.arpa.": "NameError||65.2.0.10.in-addr.arpa. SOA",
		"4.2.0.10.in-addr.arpa.":  "",
		"2.0.10.in-addr.arpa.":    "",
	} {
		what, _, raw := z.answer(packed(message(name, dnsmessage.TypePTR)), overUDP)
		if what == forward {
			raw = nil
		} else if got := summary(unpacked(t, raw)); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
		if (raw == nil) != (want == "") {
			t.Errorf("%s: got action %d", name, what)
		}
	}
	z.prefix = netip.MustParsePrefix("10.0.0.0/24")
	if what, _, _ := z.answer(packed(message("0.10.in-addr.arpa.", dnsmessage.TypeNS)), overUDP); what != forward {
		t.Error("answers for more than the prefix")
	}
	z.prefix = netip.MustParsePrefix("10.0.0.0/20")
	_, _, raw := z.answer(packed(message("7.15.0.10.in-addr.arpa.", dnsmessage.TypePTR)), overUDP)
	if got, want := summary(unpacked(t, raw)), "NameError||15.0.10.in-addr.arpa. SOA"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEDNS(t *testing.T) {
	opt := func(raw []byte) dnsmessage.ResourceHeader {
		_, _, got := testZone().answer(raw, overUDP)
		m := unpacked(t, got)
		if len(m.Additionals) != 1 || m.Additionals[0].Header.Type != dnsmessage.TypeOPT {
			t.Fatalf("got additionals %v, want one OPT", m.Additionals)
		}
		if m.CheckingDisabled {
			t.Error("CD is set: the code has run over into it")
		}
		return m.Additionals[0].Header
	}
	h := opt(packed(withEDNS(message("web.qnet.", dnsmessage.TypeA), 4000)))
	if h.Class != offeredUDP || !h.DNSSECAllowed() || h.ExtendedRCode(0) != 0 {
		t.Errorf("got OPT %#v, want size %d, DO and no code", h, offeredUDP)
	}
	h = opt(seeds()["edns-version-1"])
	if got := h.ExtendedRCode(0); got != rcodeBadVers || h.TTL>>16&0xff != 0 {
		t.Errorf("got code %d in %#v, want BADVERS of version 0", got, h)
	}
	_, _, got := testZone().answer(packed(message("web.qnet.", dnsmessage.TypeA)), overUDP)
	if m := unpacked(t, got); len(m.Additionals) != 0 {
		t.Errorf("got additionals %v for a query without OPT", m.Additionals)
	}
}

func TestTruncation(t *testing.T) {
	plain := message("many.qnet.", dnsmessage.TypeA)
	for _, test := range []struct {
		name  string
		m     dnsmessage.Message
		over  transport
		whole bool
	}{
		{"plain-udp", plain, overUDP, false},
		{"tcp", plain, overTCP, true},
		{"edns-100-counts-as-512", withEDNS(plain, 100), overUDP, false},
		{"edns-900", withEDNS(plain, 900), overUDP, false},
		{"edns-1232", withEDNS(plain, 1232), overUDP, true},
		{"edns-65535", withEDNS(plain, 65535), overUDP, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, raw := testZone().answer(packed(test.m), test.over)
			m := unpacked(t, raw)
			if test.whole != (len(m.Answers) == 60) || test.whole == m.Truncated {
				t.Errorf("got %d answers, TC %v", len(m.Answers), m.Truncated)
			}
			if len(m.Questions) != 1 || len(m.Additionals) != len(test.m.Additionals) {
				t.Errorf("got questions %v, additionals %v", m.Questions, m.Additionals)
			}
		})
	}
	for size, want := range map[dnsmessage.Class]int{0: minUDP, 100: minUDP, 1400: 1400, 65535: maxUDP} {
		q := query{opt: &dnsmessage.ResourceHeader{Class: size}}
		if got := q.limit(overUDP); got != want {
			t.Errorf("size %d: got limit %d, want %d", size, got, want)
		}
	}
}
