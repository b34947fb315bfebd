package packet

import (
	"bytes"
	"context"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"

	"github.com/qnet-vm/qnet/internal/lab"
)

func TestPing(t *testing.T) {
	lab.Require(t, lab.Root) // for the groups of ping_group_range
	lab.Run(t, func(t *testing.T) {
		lab.Uplink(t)
		for _, sockets := range []string{"0 0", "1 0"} { // with ping sockets, and without
			lab.Sh(t, "sysctl -qw net.ipv4.ping_group_range='"+sockets+"'")
			for address, want := range map[string]bool{"127.0.0.1": true, "192.0.2.1": true, "192.0.2.77": false} {
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				begin := time.Now()
				got, err := Ping(ctx, netip.MustParseAddr(address))
				cancel()
				if took := time.Since(begin); got != want || err != nil || took > 2*time.Second {
					t.Errorf("%s with groups %s: got %t, %v after %s", address, sockets, got, err, took)
				}
			}
		}
		lab.Sh(t, "ip route del default")
		for _, address := range []string{"2001:db8::1", "203.0.113.1"} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := Ping(ctx, netip.MustParseAddr(address)); err == nil {
				t.Errorf("%s can be asked", address)
			}
			cancel()
		}
	})
}

func TestEchoes(t *testing.T) {
	message := func(kind icmp.Type, data string) []byte {
		b, err := (&icmp.Message{Type: kind, Body: &icmp.Echo{ID: 7, Seq: 1, Data: []byte(data)}}).Marshal(nil)
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := ParseEcho(b); !ok || !bytes.Equal(e.Message(), b) {
			t.Errorf("%+v as a message is %x, want %x", e, e.Message(), b)
		}
		return b
	}
	for name, c := range map[string]struct {
		b    []byte
		want bool
	}{
		"reply":       {message(ipv4.ICMPTypeEchoReply, "qnet"), true},
		"other-reply": {message(ipv4.ICMPTypeEchoReply, "else"), false},
		"request":     {message(ipv4.ICMPTypeEcho, "qnet"), false},
		"short":       {[]byte{0, 0}, false},
	} {
		if got := echoes(c.b, []byte("qnet")); got != c.want {
			t.Errorf("%s: got %t", name, got)
		}
	}
}
