package answers

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func record(owner string, ttl uint32, body dnsmessage.ResourceBody) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(owner), Class: dnsmessage.ClassINET, TTL: ttl}, Body: body}
}

// Only addresses at the end of the chain that begins with the question count, with the least TTL of
// the chain; a chain that leads to itself ends.
func TestChain(t *testing.T) {
	a := func(s string) *dnsmessage.AResource {
		return &dnsmessage.AResource{A: netip.MustParseAddr(s).As4()}
	}
	cname := func(s string) *dnsmessage.CNAMEResource {
		return &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(s)}
	}
	six := &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr("::ffff:10.0.0.1").As16()}
	for name, c := range map[string]struct {
		answers []dnsmessage.Resource
		want    []string
		ttl     time.Duration
	}{
		"plain":     {[]dnsmessage.Resource{record("a.example.", 60, a("192.0.2.1")), record("A.Example.", 30, a("192.0.2.2"))}, []string{"192.0.2.1", "192.0.2.2"}, 30 * time.Second},
		"a chain":   {[]dnsmessage.Resource{record("c.example.", 50, a("192.0.2.3")), record("a.example.", 9, cname("b.example.")), record("b.example.", 60, cname("C.example."))}, []string{"192.0.2.3"}, 9 * time.Second},
		"a stray":   {[]dnsmessage.Resource{record("a.example.", 60, cname("b.example.")), record("x.example.", 60, a("192.0.2.4"))}, nil, 60 * time.Second},
		"a circle":  {[]dnsmessage.Resource{record("a.example.", 60, cname("b.example.")), record("b.example.", 60, cname("a.example."))}, nil, 60 * time.Second},
		"IPv6":      {[]dnsmessage.Resource{record("a.example.", 60, six)}, []string{"10.0.0.1"}, 60 * time.Second},
		"something": {[]dnsmessage.Resource{record("a.example.", 60, &dnsmessage.TXTResource{TXT: []string{"192.0.2.1"}})}, nil, 0},
	} {
		m := dnsmessage.Message{Header: dnsmessage.Header{Response: true}, Answers: c.answers, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("a.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
		raw, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		list, ttl := Chain("A.example.", raw)
		for _, a := range list {
			got = append(got, a.String())
		}
		if !slices.Equal(got, c.want) || c.ttl != 0 && ttl != c.ttl {
			t.Errorf("%s: got %v for %s", name, got, ttl)
		}
		for n := range raw { // what is cut off does no harm
			Chain("a.example.", raw[:n])
		}
	}
}
