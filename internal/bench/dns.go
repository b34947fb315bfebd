package main

import (
	"time"

	"github.com/qnet-vm/qnet/internal/bench/contest"
	"github.com/qnet-vm/qnet/internal/bench/rig"
	"github.com/qnet-vm/qnet/internal/bench/role"
)

// dns measures queries per second and their times against dnsmasq.
func (b *bench) dns() error {
	return b.withServiceBridge(func() error {
		for _, argv := range [][]string{
			role.Command("inet", "upstream", rig.Resolver),
			role.Command("", "dns-server"),
		} {
			server, err := rig.Background(argv...)
			if err != nil {
				return err
			}
			defer server.Stop()
		}
		// dnsmasq has an address of its own on the bridge.
		if err := rig.Sh("ip addr add 10.98.0.3/20 dev " + role.Bridge); err != nil {
			return err
		}
		dnsmasq, err := rig.Background("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--listen-address=10.98.0.3",
			"--bind-interfaces", "--no-resolv", "--server="+rig.Resolver, "--host-record=web.Qnet,10.98.0.9", "--dns-forward-max=1000",
			"--pid-file=", "--log-facility=/dev/null")
		if err != nil {
			return err
		}
		defer dnsmasq.Stop()
		time.Sleep(serverUp)
		for _, kind := range []struct{ what, name string }{
			{"a VM's name", "web.Qnet."}, {"a name asked before", "www.example.com."}, {"names of the outside, each once", "*"},
		} {
			ask := func(server string) contest.Side {
				return func() ([]float64, error) {
					return rig.Figures(role.Command("client", "queries", server+","+kind.name)...)
				}
			}
			err := b.Contest([]contest.Row{
				{What: "DNS, " + kind.what + ", 16 at a time", Against: "dnsmasq", Unit: "/s", Least: 0.5},
				{What: "the same, slowest of a hundred at 1,000 a second", Against: "dnsmasq", Unit: "ms", Limit: 2},
			}, ask(role.Address.String()), ask("10.98.0.3"))
			if err != nil {
				return err
			}
		}
		return nil
	})
}
