package hostlease

import (
	"context"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lab/programs"
	"github.com/qnet-vm/qnet/netsetup/managers"
)

// observed is the lease of udhcpc on eth0.
func observed(t *testing.T) (lease managers.HostLease, index int) {
	t.Helper()
	programs.DHCPClient(t, "udhcpc")
	c, err := managers.Observe(t.Context(), "eth0")
	if err != nil {
		t.Fatal(err)
	}
	if index, err = indexOf("eth0"); err != nil {
		t.Fatal(err)
	}
	return c.Lease, index
}

func renewWithin(t *testing.T, d time.Duration, index int, l managers.HostLease, broadcast bool) (Terms, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	return Renew(ctx, index, l, broadcast)
}

// A real server renews the lease of a real client if the request has that client's
// identifier, and refuses it with another one.
func TestRenew(t *testing.T) {
	lab.Require(t, programs.DHCPClientNeeds("udhcpc")...)
	lab.Run(t, func(t *testing.T) {
		lan := lab.NewLAN(t, lab.LANOptions{DHCP: true, Lease: 2 * time.Minute, Renew: 20 * time.Second})
		l, index := observed(t)
		first, err := renewWithin(t, 5*time.Second, index, l, false)
		// dnsmasq takes up to 1/16 of the lease off T1 and T2.
		if err != nil || first.Server.String() != lab.LANGateway || first.Lasts != 2*time.Minute || first.Renew > 20*time.Second || first.Rebind < 97*time.Second {
			t.Errorf("to all: got %+v, %v", first, err)
		}
		acks := strings.Count(lan.DHCPLog(), "DHCPACK(eth0) "+l.Address.String())
		l.Server = first.Server
		if terms, err := renewWithin(t, 5*time.Second, index, l, false); err != nil || terms.Lasts != first.Lasts {
			t.Errorf("to the server: got %+v, %v", terms, err)
		}
		if n := strings.Count(lan.DHCPLog(), "DHCPACK(eth0) "+l.Address.String()); n != acks+1 {
			t.Errorf("the server has agreed %d times, and %d times before", n, acks)
		}
		other := l
		other.ClientID = []byte{0, 1, 2}
		if terms, err := renewWithin(t, time.Second, index, other, true); !errors.Is(err, ErrRefused) {
			t.Errorf("another client: got %+v, %v", terms, err)
		}
		lan.Cable("gateway", false)
		if terms, err := renewWithin(t, 500*time.Millisecond, index, l, true); !errors.Is(err, ErrSilent) {
			t.Errorf("unplugged: got %+v, %v", terms, err)
		}
	})
}

func TestTerms(t *testing.T) {
	for name, c := range map[string]struct {
		lasts, t1, t2 time.Duration
		want          Terms
	}{
		"defaults":  {800 * time.Second, 0, 0, Terms{Lasts: 800 * time.Second, Renew: 400 * time.Second, Rebind: 700 * time.Second}},
		"given":     {800 * time.Second, 10 * time.Second, 20 * time.Second, Terms{Lasts: 800 * time.Second, Renew: 10 * time.Second, Rebind: 20 * time.Second}},
		"nonsense":  {80 * time.Second, 90 * time.Second, 100 * time.Second, Terms{Lasts: 80 * time.Second, Renew: 40 * time.Second, Rebind: 70 * time.Second}},
		"t2 before": {80 * time.Second, 50 * time.Second, 30 * time.Second, Terms{Lasts: 80 * time.Second, Renew: 30 * time.Second, Rebind: 30 * time.Second}},
	} {
		m, err := dhcpv4.New(dhcpv4.WithOption(dhcpv4.OptIPAddressLeaseTime(c.lasts)))
		if err != nil {
			t.Fatal(err)
		}
		for code, d := range map[dhcpv4.OptionCode]time.Duration{dhcpv4.OptionRenewTimeValue: c.t1, dhcpv4.OptionRebindingTimeValue: c.t2} {
			if d > 0 {
				m.UpdateOption(dhcpv4.OptGeneric(code, dhcpv4.Duration(d).ToBytes()))
			}
		}
		if got, err := terms(m); err != nil || got != c.want {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	if _, err := terms(&dhcpv4.DHCPv4{}); err == nil {
		t.Error("no time is no error")
	}
}

func TestNext(t *testing.T) {
	r := &Renewer{terms: Terms{Lasts: 800 * time.Second, Renew: 400 * time.Second, Rebind: 700 * time.Second}, began: 1000 * time.Second}
	for _, c := range []struct {
		after time.Duration // the beginning
		err   error
		want  time.Duration // after the beginning
	}{
		{0, nil, 400 * time.Second},
		{400 * time.Second, ErrSilent, 460 * time.Second},
		{680 * time.Second, ErrSilent, 690 * time.Second},
		{699 * time.Second, ErrSilent, 701 * time.Second},
		{701 * time.Second, ErrSilent, 750500 * time.Millisecond},
		{799 * time.Second, ErrSilent, 801 * time.Second},
		{5000 * time.Second, ErrSilent, 5002 * time.Second},
	} {
		if got := r.next(r.began+c.after, c.err) - r.began; got != c.want {
			t.Errorf("%s after: %s, want %s", c.after, got, c.want)
		}
	}
}

// handMove makes eth0 a port of the bridge qn-lan, which gets its address and route.
const handMove = `mac=$(cat /sys/class/net/eth0/address); addr=$(ip -4 -o addr show dev eth0 scope global | awk '{print $4}')
ip link add qn-lan address $mac type bridge stp_state 0 forward_delay 0
ip link set qn-lan addrgenmode none up
ip addr add $addr dev qn-lan noprefixroute %LIFE
ip link set eth0 master qn-lan
ip route replace 192.0.2.0/24 dev qn-lan
ip route replace default via 192.0.2.1 dev qn-lan
ip addr del $addr dev eth0`

// A Renewer keeps the address of a client that went deaf beyond the end of its
// lease, and gives the time that the server grants to an address with an end.
func TestRenewer(t *testing.T) {
	lab.Require(t, programs.DHCPClientNeeds("udhcpc")...)
	lab.Run(t, func(t *testing.T) {
		lan := lab.NewLAN(t, lab.LANOptions{DHCP: true, Lease: 2 * time.Minute, Renew: 12 * time.Second})
		l, _ := observed(t)
		lab.Sh(t, strings.Replace(handMove, "%LIFE", "valid_lft 8 preferred_lft 8", 1))
		var mu sync.Mutex
		var told []string
		before := strings.Count(lan.DHCPLog(), "DHCPACK(eth0) "+l.Address.String())
		r := New(Config{
			Client: managers.Client{Program: managers.Udhcpc, Link: "eth0", Lease: l}, Port: "eth0", Bridge: "qn-lan",
			Change: func(_ context.Context, f func() error) error {
				mu.Lock()
				defer mu.Unlock()
				return f()
			},
			Warn: func(s string) { told = append(told, s) }, Log: slog.New(slog.DiscardHandler),
		})
		ctx, cancel := context.WithTimeout(t.Context(), 14*time.Second)
		defer cancel()
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
		out := lab.Sh(t, "ip -4 addr show dev qn-lan; ip route show default dev qn-lan")
		if !strings.Contains(out, "inet "+l.Address.String()) || !regexp.MustCompile(`valid_lft 1[012]\dsec`).MatchString(out) || !strings.Contains(out, "default via") {
			t.Errorf("after the end of the lease:\n%s", out)
		}
		if n := strings.Count(lan.DHCPLog(), "DHCPACK(eth0) "+l.Address.String()) - before; n < 2 || n > 5 {
			t.Errorf("renewed %d times in 14 s with T1 of 5 to 12 s", n)
		}
		if len(told) > 0 {
			t.Errorf("told %q", told)
		}
	})
}

// After Soon, the host asks all servers at once. A server of another network refuses,
// and the user is warned.
func TestSoon(t *testing.T) {
	lab.Require(t, programs.DHCPClientNeeds("udhcpc")...)
	lab.Run(t, func(t *testing.T) {
		lan := lab.NewLAN(t, lab.LANOptions{DHCP: true})
		l, _ := observed(t)
		lab.Sh(t, strings.Replace(handMove, "%LIFE", "", 1))
		told := make(chan string, 10)
		r := New(Config{
			Client: managers.Client{Program: managers.Udhcpc, Link: "eth0", Lease: l}, Port: "eth0", Bridge: "qn-lan",
			Change: func(_ context.Context, f func() error) error { return f() },
			Warn:   func(s string) { told <- s }, Log: slog.New(slog.DiscardHandler),
		})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			if err := r.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		defer running.Wait()
		defer cancel()
		acks := func() int { return strings.Count(lan.DHCPLog(), "DHCPACK(eth0) "+l.Address.String()) }
		lab.Eventually(t, 5*time.Second, "the first renewal", func() bool { return acks() == 2 })
		r.Soon()
		lab.Eventually(t, 2*time.Second, "another at once", func() bool { return acks() == 3 })
		lan.Cable("gateway", false)
		lab.Sh(t, "ip -n outside addr flush dev eth0; ip -n outside addr add 198.51.100.1/24 dev eth0")
		lan.Daemon("outside", "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--group=", "--pid-file=", "--port=0",
			"--dhcp-authoritative", "--dhcp-range=198.51.100.50,198.51.100.99,1h", "--dhcp-leasefile=/dev/null")
		lab.Eventually(t, 15*time.Second, "the refusal of another network", func() bool {
			r.Soon()
			select {
			case text := <-told:
				return strings.Contains(text, "refuses") && strings.Contains(text, l.Address.String())
			case <-time.After(time.Second):
				return false
			}
		})
	})
}

// The user is warned once of a lease that the host is about to lose.
func TestReport(t *testing.T) {
	var told []string
	r := &Renewer{
		Config: Config{Bridge: "qn-lan", Client: managers.Client{Program: managers.Networkd}, Warn: func(s string) { told = append(told, s) }, Log: slog.New(slog.DiscardHandler)},
		terms:  Terms{Lasts: 80 * time.Second, Renew: 40 * time.Second, Rebind: 70 * time.Second}, began: time.Second,
	}
	r.report(50*time.Second, ErrSilent)
	if len(told) != 0 {
		t.Errorf("before T2: told %q", told)
	}
	for range 3 {
		r.report(72*time.Second, ErrSilent)
	}
	r.warned = false
	r.report(50*time.Second, ErrRefused)
	if len(told) != 2 || !strings.Contains(told[1], "refuses") || !strings.Contains(told[0], "systemd-networkd") {
		t.Errorf("told %q", told)
	}
}
