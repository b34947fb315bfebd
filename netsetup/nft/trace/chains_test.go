package trace

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nltest"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/nft"
)

// The kernel's numbers of families and hooks are the words of nft(8).
func TestBaseChains(t *testing.T) { lab.Run(t, baseChains) }

func baseChains(t *testing.T) {
	ip := []nft.Hook{nft.Prerouting, nft.Input, nft.Forward, nft.Output, nft.Postrouting}
	want := map[ChainName]nft.Hook{}
	text := "table ip t { chain jumped_to { accept; }; }\n"
	for family, hooks := range map[nft.Family][]nft.Hook{
		nft.IP: ip, nft.IP6: ip, nft.Bridge: ip, nft.INet: append([]nft.Hook{nft.Ingress}, ip...), nft.ARP: {nft.Input, nft.Output}, nft.NetDev: {nft.Ingress, nft.Egress},
	} {
		for _, h := range hooks {
			device := ""
			if h == nft.Ingress || h == nft.Egress {
				device = "device lo"
			}
			// Not all names of chains are free: some are words of nft's.
			text += fmt.Sprintf("table %s t { chain c%s { type filter hook %s %s priority 0; }; }\n", family, h, h, device)
			want[ChainName{family, "t", "c" + string(h)}] = h
		}
	}
	lab.Sh(t, "nft -f - <<'EOF'\n"+text+"EOF")
	got, err := BaseChains()
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v\nwant %v", got, err, want)
	}
	if f, h := nft.FamilyOf(0), nft.HookOf(nft.NetDev, 2); f != "" || h != "" {
		t.Errorf("there is no family %q and no hook %q", f, h)
	}
}

// Chains without a hook are not base chains.
func TestBaseChainsDecode(t *testing.T) {
	var list []netlink.Message
	chain := func(name string, more ...netlink.Attribute) {
		attrs := append([]netlink.Attribute{
			{Type: unix.NFTA_CHAIN_TABLE, Data: []byte("t\x00")}, {Type: unix.NFTA_CHAIN_NAME, Data: []byte(name + "\x00")},
		}, more...)
		list = append(list, netlink.Message{
			Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWCHAIN, Flags: netlink.Multi},
			Data:   append([]byte{unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0}, nltest.MustMarshalAttributes(attrs)...),
		})
	}
	hook := nltest.MustMarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_HOOK_HOOKNUM, Data: binaryutil.BigEndian.PutUint32(1)}, {Type: unix.NFTA_HOOK_PRIORITY, Data: binaryutil.BigEndian.PutUint32(0)},
	})
	chain("first", netlink.Attribute{Type: unix.NLA_F_NESTED | unix.NFTA_CHAIN_HOOK, Data: hook})
	chain("jumped_to")
	c, err := nftables.New(nftables.WithTestDial(func(req []netlink.Message) ([]netlink.Message, error) {
		for i := range list {
			list[i].Header.Sequence, list[i].Header.PID = req[0].Header.Sequence, req[0].Header.PID
		}
		return append(slices.Clone(list), netlink.Message{
			Header: netlink.Header{Type: netlink.Done, Flags: netlink.Multi, Sequence: req[0].Header.Sequence, PID: req[0].Header.PID}, Data: make([]byte, 4),
		}), nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	got, err := listBaseChains(c)
	if err != nil || len(got) != 1 || got[ChainName{nft.INet, "t", "first"}] != nft.Input {
		t.Errorf("got %v, %v", got, err)
	}
	refused, err := nftables.New(nftables.WithTestDial(func([]netlink.Message) ([]netlink.Message, error) { return nil, unix.EPERM }))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listBaseChains(refused); !errors.Is(err, unix.EPERM) {
		t.Errorf("got %v, want EPERM", err)
	}
}
