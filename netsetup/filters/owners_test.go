package filters

import (
	"testing"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// Names tell the programs apart: of the comment first, then of the table and the chain.
func TestOwners(t *testing.T) {
	table := func(e Engine, name string) *Table { return &Table{Engine: e, Family: nft.IP, Name: name} }
	jumps := func(chains ...string) *Chain {
		c := &Chain{Name: "FORWARD"}
		for _, name := range chains {
			c.Rules = append(c.Rules, Rule{Verdict: Jump, Chain: name})
		}
		return c
	}
	for _, c := range []struct {
		table      *Table
		chain      *Chain
		rule       *Rule
		want       string
		killSwitch bool
	}{
		{table(NFTables, "mullvad"), jumps(), nil, "Mullvad VPN", true},
		{table(NFTables, "firewalld"), jumps(), &Rule{}, "firewalld", false},
		{table(NFTables, "mine"), jumps(), &Rule{}, "a ruleset of nft, such as /etc/nftables.conf", false},
		{table(IPTablesNFT, "filter"), jumps(), &Rule{Comment: "nordvpn"}, "NordVPN", true},
		{table(IPTablesNFT, "filter"), &Chain{Name: "ufw-user-input"}, &Rule{}, "ufw", false},
		{table(IPTablesNFT, "filter"), jumps(), &Rule{}, "a rule of iptables-nft", false},
		{table(IPTablesNFT, "filter"), jumps(), nil, "a policy of iptables-nft", false},
		{table(IPTablesNFT, "filter"), jumps("DOCKER-USER", "ufw-before-forward", "DOCKER-FORWARD"), nil, "Docker or ufw", false},
		{table(IPTablesNFT, "filter"), jumps("LIBVIRT_FWI"), nil, "a policy of iptables-nft", false},
		{table(IPTablesNFT, "filter"), jumps("IVPN-FORWARD"), nil, "IVPN", true},
		{table(EBTablesNFT, "filter"), jumps(), nil, "ebtables", false},
	} {
		if name, on := program(c.table, c.chain, c.rule); name != c.want || on != c.killSwitch {
			t.Errorf("got %q, %t, want %q, %t", name, on, c.want, c.killSwitch)
		}
	}
}
