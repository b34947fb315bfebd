package dns

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// A server at an IPv6 address answers over UDP and TCP, about names of both families, and answers
// its own prefix only.
func TestServesOverIPv6(t *testing.T) {
	z := testZone()
	for _, prefix := range []string{"::1/128", "::/127"} {
		s, err := Listen(Config{
			Address: netip.IPv6Loopback(), Port: freePort(t).Port(), Prefix: netip.MustParsePrefix(prefix), Also: z.prefix, Lookup: z.lookup, Reverse: z.reverse,
		})
		if err != nil {
			t.Fatal(err)
		}
		if prefix == "::/127" {
			s.config.Prefix = netip.MustParsePrefix("fd00::/64") // others than the client's
		}
		go s.Serve()
		for over, kind := range map[string]dnsmessage.Type{"udp6": dnsmessage.TypeAAAA, "tcp6": dnsmessage.TypeA} {
			want := map[dnsmessage.Type]string{dnsmessage.TypeAAAA: "Success|dual.qnet.=fd00::5", dnsmessage.TypeA: "Success|dual.qnet.=10.0.2.5"}[kind]
			if prefix == "::/127" {
				want = "none"
			}
			if got := asked(t, over, s.udp.LocalAddr().String(), message("dual.qnet.", kind)); got != want {
				t.Errorf("%s, %s: got %q, want %q", prefix, over, got, want)
			}
		}
		s.Close()
	}
}

// asked is the summary of an answer, "none" where none comes.
func asked(t *testing.T, over, at string, m dnsmessage.Message) string {
	t.Helper()
	c, err := net.Dial(over, at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(300 * time.Millisecond))
	raw := packed(m)
	if over == "tcp6" {
		if writeMessage(c, raw) != nil {
			return "none"
		}
		if raw, err = readMessage(c); err != nil {
			return "none"
		}
		return summary(unpacked(t, raw))
	}
	if _, err := c.Write(raw); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, maxUDP)
	n, err := c.Read(b)
	if err != nil {
		return "none"
	}
	return summary(unpacked(t, b[:n]))
}
