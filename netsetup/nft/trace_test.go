package nft

import (
	"net"
	"os/exec"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
)

// A packet that a rule of ours marks is followed to the rule that drops it.
func TestTraceNamesTheRule(t *testing.T) { lab.Run(t, traceNamesTheRule) }

func traceNamesTheRule(t *testing.T) {
	inNetNS(t, func() {
		if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			t.Errorf("%s", out)
			return
		}
		nftProgram(t, `table inet foreign {
	chain first { type filter hook input priority 0; udp dport 9 jump second; }
	chain second { counter; ip protocol udp drop; }
}
table inet late { chain out { type filter hook output priority 0; policy drop; udp dport 7 accept; udp dport 9 accept; }; }
`, "-f", "-")
		c, err := Dial()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		mark := Table{Family: INet, Name: "qnet_t", Comment: "qnet:t", Chains: []Chain{
			{Name: "from_host", Type: "filter", Hook: Output, Priority: -1000, Policy: Accept, Rules: []Rule{{Do: TracePacket}}},
		}}
		if err := c.Add(mark); err != nil {
			t.Error(err)
			return
		}
		tracer, err := Trace()
		if err != nil {
			t.Error(err)
			return
		}
		defer tracer.Close()
		for _, port := range []int{9, 11} {
			udp, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
			if err != nil {
				t.Error(err)
				return
			}
			udp.Write([]byte("x")) // which the policy refuses for port 11
			udp.Close()
		}
		var drops []TraceEvent
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
			t.Errorf("drops: %+v", drops)
			return
		}
		rule, policy := drops[0], drops[1]
		if rule.Family != INet || rule.Table != "foreign" || rule.Chain != "second" || rule.Handle == 0 || rule.Policy || rule.In != 1 {
			t.Errorf("rule: %+v", rule)
		}
		if len(rule.Network) < 20 || len(rule.Transport) < 4 || rule.Transport[3] != 9 {
			t.Errorf("headers: %x %x", rule.Network, rule.Transport)
		}
		if policy.Table != "late" || policy.Chain != "out" || !policy.Policy || policy.Out != 1 {
			t.Errorf("policy: %+v", policy)
		}
	})
}
