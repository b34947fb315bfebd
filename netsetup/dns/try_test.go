package dns

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/qnet-vm/qnet/internal/lab"
)

// onlyOver answers over one transport and is silent over the other.
func onlyOver(want transport) handler {
	answer := answerWith(0, "up")
	return func(raw []byte, over transport) [][]byte {
		if over != want {
			return nil
		}
		return answer(raw, over)
	}
}

// What Try says of the host's name servers is what a guest's question meets, whatever the
// resolv.conf.
func TestTryIsWhatGuestsMeet(t *testing.T) {
	lab.Require(t, lab.Program("ip"))
	lab.Run(t, func(t *testing.T) {
		lab.Sh(t, `ip link set lo up; ip addr add ::1/128 dev lo 2>/dev/null || true
			ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up
			for l in up0 up1; do sysctl -qw net.ipv6.conf.$l.accept_dad=0; done
			ip -6 addr add fe80::7/64 dev up1 nodad`)
		link := strings.TrimSpace(lab.Sh(t, "cat /sys/class/net/up1/ifindex"))
		const port = 5353
		serve := func(at string, handle handler) {
			startUpstreamAt(t, netip.AddrPortFrom(netip.MustParseAddr(at), port), handle)
		}
		serve("127.0.0.1", answerWith(0, "local"))
		serve("127.0.0.53", answerWith(0, "stub"))
		serve("127.0.0.2", silent)
		serve("127.0.0.3", onlyOver(overTCP))
		serve("127.0.0.4", answerWith(dnsmessage.RCodeServerFailure, ""))
		serve("127.0.0.5", answerWith(dnsmessage.RCodeRefused, ""))
		serve("127.0.0.6", answerWith(dnsmessage.RCodeNameError, ""))
		serve("::1", answerWith(0, "six"))
		serve("fe80::7%up1", answerWith(0, "link"))
		for conf, resolves := range map[string]bool{
			"nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch example.org\n": true,
			"nameserver ::1\n":                                    true,
			"nameserver ::ffff:127.0.0.53\n":                      true,
			"nameserver fe80::7%up1\n":                            true,
			"nameserver fe80::7%" + link + "\n":                   true,
			"nameserver fe80::7\n":                                false, // without a link
			"nameserver fe80::7%none\n":                           false,
			"nameserver 127.0.0.2\nnameserver 127.0.0.53\n":       true,
			"nameserver 127.0.0.99\nnameserver 127.0.0.53\n":      true, // nobody listens
			"nameserver 127.0.0.2\n":                              false,
			"nameserver 127.0.0.3\n":                              false,
			"nameserver 127.0.0.3\noptions use-vc\n":              true,
			"nameserver 127.0.0.4\nnameserver 127.0.0.5\n":        false,
			"nameserver 127.0.0.4\nnameserver 127.0.0.53\n":       true,
			"nameserver 127.0.0.6\n":                              true, // it says that there is no such name
			"":                                                    true, // the server on the host itself
			"search example.org\nnameserver resolver.example.org": true,
			"missing": true,
		} {
			l := testLimits()
			l.perServer, l.total, l.upstreamPort = 150*time.Millisecond, 600*time.Millisecond, port
			b := startServer(t, l)
			if err := os.WriteFile(b.conf, []byte(conf), 0o600); err != nil {
				t.Fatal(err)
			}
			if conf == "missing" {
				os.Remove(b.conf)
			}
			tried, err := try(t.Context(), b.conf, "example.com", l)
			if err != nil {
				t.Fatal(err)
			}
			answers := false
			for _, one := range tried {
				answers = answers || one.Answers()
			}
			m := message("example.com.", dnsmessage.TypeA)
			got := b.exchange(t, overUDP, m).RCode
			guests := got == dnsmessage.RCodeSuccess || got == dnsmessage.RCodeNameError
			if answers != resolves || guests != resolves {
				t.Errorf("%q: a guest gets %v, Try says %+v; want an answer: %t", conf, got, tried, resolves)
			}
		}
	})
}

func TestTryRefusesBadNames(t *testing.T) {
	if _, err := Try(t.Context(), "", strings.Repeat("a", 300)); err == nil {
		t.Error("a name of 300 bytes was asked for")
	}
}
