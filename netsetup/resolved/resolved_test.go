package resolved

import (
	"context"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/qnet-vm/qnet/internal/lab"
)

// Observe reads the settings that Tell or the commands gave a link, and Revert takes them
// all back.
func TestTellAndObserve(t *testing.T) {
	lab.Run(t, func(t *testing.T) {
		lab.Uplink(t)
		const link = 2 // eth0 of the lab
		if runs, err := Tell(t.Context(), link, Settings{LLMNR: "no"}); runs || err != nil {
			t.Errorf("without systemd-resolved: runs %v, %v", runs, err)
		}
		lab.Resolved(t)
		look := func() Settings {
			t.Helper()
			s, err := Observe(t.Context(), link)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		if s := look(); !s.Empty() {
			t.Errorf("told nothing: %+v", s)
		}
		yes, no := true, false
		for name, want := range map[string]Settings{
			"servers": {Servers: []Server{{Address: netip.MustParseAddr("192.0.2.53")}, {Address: netip.MustParseAddr("2001:db8::53")}}, DefaultRoute: &no},
			"all": {
				Servers:      []Server{{netip.MustParseAddr("192.0.2.53"), 5353, "dns.example"}, {netip.MustParseAddr("2001:db8::53"), 8853, ""}},
				Domains:      []Domain{{"lan.example", false}, {"corp.example", true}, {".", true}},
				DefaultRoute: &yes, LLMNR: "resolve", MulticastDNS: "yes", DNSOverTLS: "opportunistic", DNSSEC: "allow-downgrade",
				Trust: []string{"a.example"},
			},
			"no default route": {DefaultRoute: &yes},
			"LLMNR":            {LLMNR: "no"},
		} {
			if runs, err := Tell(t.Context(), link, want); !runs || err != nil {
				t.Fatalf("%s: runs %v, %v", name, runs, err)
			}
			if got := look(); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: told\n%+v\nread\n%+v", name, want.Commands("eth0"), got.Commands("eth0"))
			}
			if err := Revert(t.Context(), link); err != nil {
				t.Error(err)
			}
			lab.Sh(t, strings.Join(want.Commands("eth0"), "\n"))
			if got := look(); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: by\n%q\nread\n%q", name, want.Commands("eth0"), got.Commands("eth0"))
			}
			if err := Revert(t.Context(), link); err != nil {
				t.Error(err)
			}
			if s := look(); !s.Empty() {
				t.Errorf("%s: reverted: %+v", name, s)
			}
		}
		// A link that it does not know of is tried again until the time is up.
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if runs, err := Tell(ctx, 99, Settings{LLMNR: "no"}); !runs || err == nil {
			t.Errorf("no such link: runs %v, %v", runs, err)
		}
	})
}

// The bus of another network namespace is none: its links are others.
func TestBusOfAnotherNamespace(t *testing.T) {
	lab.Run(t, func(t *testing.T) {
		lab.Uplink(t)
		lab.Resolved(t)
		if !Runs(t.Context()) {
			t.Error("it does not run here")
		}
		lab.InNamespace(t, "inet", func() error {
			if Runs(t.Context()) {
				t.Error("it runs in another namespace, too")
			}
			// The daemon's end of a connection is of the namespace of the program that connects.
			bus, err := dbus.ConnectSystemBus()
			if err != nil {
				return err
			}
			defer bus.Close()
			if Runs(t.Context()) {
				t.Error("it runs in another namespace once a program there is on its bus")
			}
			return nil
		})
	})
}
