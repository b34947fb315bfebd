package nft

import (
	"fmt"
	"maps"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
)

// The kernel's numbers of families and hooks are the words of nft(8).
func TestBaseChains(t *testing.T) { lab.Run(t, baseChains) }

func baseChains(t *testing.T) {
	ip := []Hook{Prerouting, Input, Forward, Output, Postrouting}
	want := map[ChainName]Hook{}
	text := "table ip t { chain jumped_to { accept; }; }\n"
	for family, hooks := range map[Family][]Hook{
		IP: ip, IP6: ip, Bridge: ip, INet: append([]Hook{Ingress}, ip...), ARP: {Input, Output}, NetDev: {Ingress, Egress},
	} {
		for _, h := range hooks {
			device := ""
			if h == Ingress || h == Egress {
				device = "device lo"
			}
			// Not all names of chains are free: some are words of nft's.
			text += fmt.Sprintf("table %s t { chain c%s { type filter hook %s %s priority 0; }; }\n", family, h, h, device)
			want[ChainName{family, "t", "c" + string(h)}] = h
		}
	}
	inNetNS(t, func() {
		nftProgram(t, text, "-f", "-")
		got, err := BaseChains()
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("got %v, %v\nwant %v", got, err, want)
		}
	})
	if f, h := FamilyOf(0), HookOf(NetDev, 2); f != "" || h != "" {
		t.Errorf("there is no family %q and no hook %q", f, h)
	}
}
