package probe

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/doctor/probe/guest"
	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/nft/trace"
	"github.com/qnet-vm/qnet/netsetup/ways"
	"github.com/qnet-vm/qnet/profiles"
)

var (
	guestAddr = netip.MustParseAddr("192.168.223.5")
	gateway   = netip.MustParseAddr("192.168.223.1")
	web       = guest.Flow{Src: guestAddr, Dst: outside.Addr(), Protocol: guest.TCP, ID: 40000, Port: 80}
)

// captured is a ruleset in the testdata of package filters.
func captured(t *testing.T, name string) (r filters.Ruleset) {
	t.Helper()
	b, err := os.ReadFile("../../../netsetup/filters/testdata/" + name + ".json")
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What a cause says of guests and the host, and of what the rules match.
const (
	open       = ": accept what guests need of the host, and no more, with: "
	fromGuests = `iifname "qn-dev" ip saddr 192.168.223.0/24 ip daddr 192.168.223.1 `
)

// onHost is a probe on a host with eth0 as the uplink and these rules.
func onHost(r filters.Ruleset) *run {
	g := &guest.Guest{Tap: "qnweb0"}
	g.Configure(guest.Lease{Address: guestAddr, Prefix: netip.MustParsePrefix("192.168.223.0/24"), Gateway: gateway})
	return &run{
		network: keeper.Network{Name: "dev", Mode: profiles.NAT}, guest: g, rules: func() filters.Ruleset { return r },
		info: keeper.Info{Mode: profiles.NAT, Bridge: "qn-dev", Prefix: netip.MustParsePrefix("192.168.223.0/24"), Gateway: gateway, KeeperPID: 7},
		facts: host.Facts{
			Links: []host.Link{
				{Name: "lo", Index: 1, Loopback: true, Addresses: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}},
				{Name: "eth0", Index: 2, Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.10/24")}},
			},
			Routes:    []host.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Link: "eth0", Via: netip.MustParseAddr("192.0.2.1")}},
			Ways:      []ways.Way{{Link: 2, Via: netip.MustParseAddr("192.0.2.1")}},
			Resolvers: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("127.0.0.53"), netip.MustParseAddr("192.0.2.10")},
		},
	}
}

// Without a trace the rules say what drops a guest's packets, and its owner's command
// accepts them.
func TestExplainStatically(t *testing.T) {
	toHost := guest.Flow{Src: guestAddr, Dst: gateway, Protocol: guest.UDP, ID: 40000, Port: 53}
	const (
		inZone  = `firewall-cmd --zone=public --add-rich-rule='rule family="ipv4" source address="192.168.223.0/24" destination address="192.168.223.1/32" `
		inChain = "iptables-legacy -w 10 -t filter -I INPUT -s 192.168.223.0/24 -d 192.168.223.1/32 -i qn-dev "
	)
	for _, c := range []struct {
		ruleset string
		flow    guest.Flow
		want    string
	}{
		{"docker", web, "drop at forward: iptables-nft table ip filter chain FORWARD policy DROP (Docker): accept it with: iptables-nft -I DOCKER-USER -i qn-dev -j ACCEPT; " +
			"iptables-nft -I DOCKER-USER -o qn-dev -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"},
		{"docker", toHost, ""},
		{"ufw", web, "drop at forward: iptables-nft table ip filter chain FORWARD policy DROP (ufw): accept it with: ufw route allow in on qn-dev; ufw route allow out on qn-dev"},
		{"ufw", toHost, "drop at input: iptables-nft table ip filter chain INPUT policy DROP (ufw)" + open + "ufw allow in on qn-dev to 192.168.223.1 port 53"},
		{"firewalld", toHost, `drop at input: table inet firewalld chain filter_IN_public rule "reject" (firewalld)` + open + inZone + `port port="53" protocol="udp" accept'; ` + inZone + `port port="53" protocol="tcp" accept'; ` + inZone + `icmp-type name="echo-request" accept'`},
		{"iptables-legacy", toHost, "drop at input: iptables-legacy table ip filter chain INPUT policy DROP (a policy of iptables-legacy)" + open + inChain + "-p udp -m udp --dport 53 -j ACCEPT; " + inChain + "-p tcp -m tcp --dport 53 -j ACCEPT; " + inChain + "-p icmp -m icmp --icmp-type 8 -j ACCEPT"},
		{"nftables-conf", toHost, "drop at input: table inet filter chain input policy DROP (a ruleset of nft, such as /etc/nftables.conf)" + open + "nft insert rule inet filter input " + fromGuests + "udp dport 53 accept; nft insert rule inet filter input " + fromGuests + "tcp dport 53 accept"},
		{"nftables-conf", web, "drop at forward: table inet filter chain forward policy DROP (a ruleset of nft, such as /etc/nftables.conf): accept it with: " +
			"nft insert rule inet filter forward iifname qn-dev accept; nft insert rule inet filter forward oifname qn-dev ct state established,related accept"},
		{"mullvad", web, "drop at forward: table inet mullvad chain forward rule \"reject\" (Mullvad VPN): it does so on purpose, to keep all traffic inside the VPN: allow local networks, or split tunnelling, in its settings"},
		{"libvirt", web, ""},
	} {
		if got := onHost(captured(t, c.ruleset)).explainStatically(c.flow); got != c.want {
			t.Errorf("%s, %s: got\n%s\nwant\n%s", c.ruleset, c.flow, got, c.want)
		}
	}
}

// br_netfilter shows frames between guests to FORWARD.
func TestWouldDropBetweenGuests(t *testing.T) {
	f := guest.Flow{Src: guestAddr, Dst: guestAddr.Next(), Protocol: guest.ICMP, ID: 7}
	if d := onHost(captured(t, "docker")).wouldDrop(captured(t, "docker"), f); len(d) != 2 || d[0].Base != "FORWARD" {
		t.Errorf("got %+v", d)
	}
}

// A trace names a rule by its handle. A rule that is gone, and qnet's own, have words, too.
func TestExplainDrop(t *testing.T) {
	event := func(table, chain string, handle uint64) sight {
		return sight{Event: trace.Event{Family: nft.INet, Table: table, Chain: chain, Handle: handle}, at: toHost}
	}
	r := onHost(captured(t, "mullvad"))
	rules := r.rules().Tables[0]
	reject := rules.Chain("forward").Rules[len(rules.Chain("forward").Rules)-1]
	for name, c := range map[string]struct {
		s    sight
		want string
	}{
		"a rule":     {event("mullvad", "forward", reject.Handle), `the answer: drop at forward: table inet mullvad chain forward rule "reject # handle `},
		"gone since": {event("mine", "in", 5), `the answer: drop at input: table inet mine chain in rule "# handle 5" (a program that has removed it since)` + open + "nft insert rule inet mine in " + fromGuests + "udp dport 53 accept; "},
		"qnet's":     {event("qnet_dev", "in", 5), `the answer: drop at input: table inet qnet_dev chain in rule "# handle 5" (qnet itself)`},
	} {
		if got := r.explainDrop(c.s, "the answer: "); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

// Rules of a bridge's family and of packets that the host sends have commands of their own.
func TestRemedies(t *testing.T) {
	r := onHost(filters.Ruleset{})
	for want, d := range map[string]filters.Drop{
		"accept it with: nft insert rule bridge t c accept":                    {Engine: filters.NFTables, Family: nft.Bridge, Table: "t", Base: "c", Hook: nft.Forward},
		"accept it with: nft insert rule inet t c oifname qn-dev accept":       {Engine: filters.NFTables, Family: nft.INet, Table: "t", Base: "c", Hook: nft.Output},
		"accept it with: iptables-nft -t filter -I OUTPUT -o qn-dev -j ACCEPT": {Engine: filters.IPTablesNFT, Family: nft.IP, Table: "filter", Base: "OUTPUT", Hook: nft.Output},
	} {
		if got := r.remedy(d); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// The counters of iptables-legacy count only for what drops the flow itself.
func TestCounted(t *testing.T) {
	before := captured(t, "iptables-legacy")
	after := captured(t, "iptables-legacy")
	r := onHost(after)
	if _, ok := r.counted(web, counts{legacy: before}, counts{legacy: after}); ok {
		t.Error("nothing was counted in between")
	}
	for i := range after.Tables {
		for j := range after.Tables[i].Chains {
			after.Tables[i].Chains[j].Packets++
		}
	}
	if d, ok := r.counted(web, counts{legacy: before}, counts{legacy: after}); !ok || d.Chain != "FORWARD" {
		t.Errorf("got %+v, %t", d, ok)
	}
}

// A trail holds a guest's packets and the replies, also where addresses are translated.
func TestTrail(t *testing.T) {
	translated := guest.Flow{Src: netip.MustParseAddr("192.0.2.10"), Dst: web.Dst, Protocol: guest.TCP, ID: 40000, Port: 80}
	reply := guest.Flow{Src: web.Dst, Dst: guestAddr, Protocol: guest.TCP, ID: 80, Port: 40000}
	toUplink := reply
	toUplink.Dst, toUplink.Port = netip.MustParseAddr("192.0.2.10"), 50000
	ping := guest.Flow{Src: guestAddr, Dst: gateway, Protocol: guest.ICMP, ID: 7}
	pong := guest.Flow{Src: gateway, Dst: guestAddr, Protocol: guest.ICMP, ID: 7}
	whoHas := guest.Flow{Src: guestAddr, Dst: gateway, Protocol: guest.ARP}
	isAt := guest.Flow{Src: gateway, Dst: guestAddr, Protocol: guest.ARP}
	discover := guest.Flow{Src: netip.IPv4Unspecified(), Dst: guest.LimitedBroadcast, Protocol: guest.UDP, ID: 68, Port: 67}
	offer := guest.Flow{Src: gateway, Dst: guest.LimitedBroadcast, Protocol: guest.UDP, ID: 67, Port: 68}
	for name, c := range map[string]struct {
		got, flow      guest.Flow
		request, reply bool
	}{
		"request":           {web, web, true, false},
		"masqueraded":       {translated, web, true, false},
		"another port":      {guest.Flow{Src: web.Src, Dst: web.Dst, Protocol: guest.TCP, ID: 40001, Port: 80}, web, false, false},
		"reply":             {reply, web, false, true},
		"reply to the host": {toUplink, web, false, true},
		"pong":              {pong, ping, false, true},
		"ARP reply":         {isAt, whoHas, false, true},
		"OFFER":             {offer, discover, false, true},
		"of another host":   {guest.Flow{Src: gateway, Dst: guestAddr, Protocol: guest.TCP, ID: 80, Port: 40000}, web, false, false},
	} {
		if request, reply := isRequest(c.got, c.flow), isReply(c.got, c.flow); request != c.request || reply != c.reply {
			t.Errorf("%s: request %t, reply %t", name, request, reply)
		}
	}
	drop := sight{at: toHost, drop: true}
	if _, ok := dropped([]sight{{at: atHost}, drop}, web); !ok || !reached([]sight{drop}, toHost) || reached([]sight{drop}, through) {
		t.Error("a drop at input was not found")
	}
	if _, ok := dropped([]sight{drop}, discover); ok {
		t.Error("qnet's own drop of a DHCP message counted")
	}
}

// The headers in a trace tell the flow; the links tell the hook of a chain without one.
func TestEvents(t *testing.T) {
	frame := packet.IP{Src: web.Src, Dst: web.Dst, Protocol: guest.TCP, Payload: []byte{0x9c, 0x40, 0, 80, 0, 0, 0, 0}}.Frame()[packet.EtherLen:]
	if f, ok := flowIn(trace.Event{Network: frame[:20], Transport: frame[20:]}); !ok || f != web {
		t.Errorf("TCP: %+v, %t", f, ok)
	}
	arp := append([]byte{0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 192, 168, 223, 5}, 0, 0, 0, 0, 0, 0, 192, 168, 223, 1)
	if f, ok := flowIn(trace.Event{Network: arp}); !ok || f.String() != "who has 192.168.223.1" {
		t.Errorf("ARP: %+v, %t", f, ok)
	}
	if _, ok := flowIn(trace.Event{Network: []byte{1, 2, 3}}); ok {
		t.Error("a flow was read from nothing")
	}
	for want, e := range map[nft.Hook]trace.Event{nft.Forward: {In: 1, Out: 2}, nft.Input: {In: 1}, nft.Output: {Out: 2}} {
		if got := inferred(e); got.hook != want {
			t.Errorf("%+v: got %s, want %s", e, got.hook, want)
		}
	}
}

// What the host knows about itself: addresses, names of links, the next hop, targets.
func TestFacts(t *testing.T) {
	r := onHost(filters.Ruleset{})
	if !r.hasAddress(netip.MustParseAddr("192.0.2.10")) || r.hasAddress(guestAddr) {
		t.Error("addresses")
	}
	if r.linkName(2) != "eth0" || r.linkName(9) != "link 9" {
		t.Error("names of links")
	}
	if hop := r.nextHopOf(outside.Addr()); hop.String() != "192.0.2.1" {
		t.Errorf("next hop: %s", hop)
	}
	if hop := r.nextHopOf(netip.MustParseAddr("192.0.2.99")); hop.String() != "192.0.2.99" {
		t.Errorf("next hop on the link: %s", hop)
	}
	if got := r.findTargets(); len(got) != 1 || got[0].String() != "192.0.2.1:53" {
		t.Errorf("targets: %v", got)
	}
	r.targets = []netip.AddrPort{outside, netip.AddrPortFrom(outside.Addr(), 443), netip.MustParseAddrPort("[2001:db8::1]:80")}
	if got := r.traced(); len(got) != 1 {
		t.Errorf("traced: %v", got)
	}
	if got := r.hostAddresses(); len(got) != 1 || got[0].String() != "192.0.2.10" {
		t.Errorf("addresses of the host: %v", got)
	}
	if err := r.noTarget(); !errors.Is(err, errNoTarget) {
		t.Errorf("no target: %v", err)
	}
	r.facts.Routes, r.facts.Ways = nil, nil
	if err := r.noTarget(); errors.Is(err, errNoTarget) || !strings.Contains(err.Error(), "no default route") {
		t.Errorf("no target and no route: %v", err)
	}
}

// Causes that the error of a step and the facts give.
func TestExplain(t *testing.T) {
	r := onHost(filters.Ruleset{})
	r.resolvConf = "/nonexistent/resolv.conf"
	silence := &guest.Silence{Flow: web}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"black hole":         {&BlackHole{Silence: silence, Full: 1500, Passes: 1400}, "ip link set eth0 mtu 1400, to which qnet clamps guests' TCP"},
		"nothing passes":     {&BlackHole{Silence: silence, Full: 1500}, "MTU black hole behind eth0: 1500 bytes to 203.0.113.1 vanish without an ICMP error, 0 pass"},
		"a router":           {&guest.ICMPError{Flow: web, From: netip.MustParseAddr("203.0.113.99"), Type: 3, Code: 1}, "the router 203.0.113.99 refuses it, beyond this host"},
		"the host has none":  {guest.AnswerError(2), "the host has no resolver: /etc/resolv.conf names none"},
		"the error says all": {errors.New("it broke"), ""},
		"silence, no trace":  {silence, ""},
	} {
		got := r.explain(t.Context(), c.err, counts{rpFiltered: 1 << 62})
		if !strings.HasSuffix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
	for want, err := range map[string]error{
		"a blackhole route, or one that leads back": unix.EINVAL, "a prohibit route": unix.EACCES, "unreachable": unix.ENETUNREACH, "it broke": errors.New("it broke"),
	} {
		if got := routeError(err); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// On a LAN the uplink and its cable are what can be wrong.
func TestExplainLAN(t *testing.T) {
	r := onHost(filters.Ruleset{})
	r.info.Mode, r.info.Uplinks = profiles.Bridge, []string{"eth0"}
	if got := r.silentLAN(); !strings.HasPrefix(got, "eth0 has no link") {
		t.Errorf("without a carrier: %s", got)
	}
	r.facts.Links[1].Carrier = true
	if got := r.silentLAN(); !strings.HasPrefix(got, "nothing on the LAN behind eth0 answers") {
		t.Errorf("with a carrier: %s", got)
	}
	for address, want := range map[string]string{"192.0.2.99": "eth0", "203.0.113.1": "eth0", "127.0.0.9": "lo"} {
		if got := r.linkTo(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s by %s, want %s", address, got, want)
		}
	}
	if got := onHost(filters.Ruleset{}).uplink(); got != "" {
		t.Errorf("the uplink of another mode: %s", got)
	}
	// The tap of this test is no port of any bridge.
	if got := r.explainOnBridge(trail{}); !strings.Contains(got, "is no port of bridge qn-dev any more") {
		t.Errorf("got %s", got)
	}
	r.network.Macvtap = true
	if got := r.explainOnBridge(trail{}); got != r.silentLAN() {
		t.Errorf("macvtap: %s", got)
	}
}

// A rule that keeps packets from connection tracking is named.
func TestNotrack(t *testing.T) {
	rule := filters.Rule{Text: `iifname "qn-dev" notrack`, Untracks: true}
	r := onHost(filters.Ruleset{Tables: []filters.Table{{Family: nft.IP, Name: "raw", Chains: []filters.Chain{{Name: "pre", Rules: []filters.Rule{rule}}}}}})
	if got, want := r.notrack(), `: table ip raw chain pre has the rule "iifname \"qn-dev\" notrack"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A step's error decides its outcome, and only a failed one has a cause.
func TestOutcomes(t *testing.T) {
	r := onHost(filters.Ruleset{})
	for want, err := range map[Outcome]error{Pass: nil, Skip: skipped{"why"}, Warn: warned{"what"}, Fail: &guest.ICMPError{From: outside.Addr(), Type: 3}} {
		passed := r.try(t.Context(), string(want), func(context.Context) (string, error) { return "detail", err })
		s := r.steps[len(r.steps)-1]
		if s.Outcome != want || passed != (want == Pass || want == Warn) || (s.Cause != "") != (want == Fail) {
			t.Errorf("%s: %+v", want, s)
		}
	}
	if !r.passed(string(Pass)) || r.passed(string(Warn)) || !(Report{Steps: r.steps}).Failed() {
		t.Error("the report")
	}
}

// What is forbidden and happens all the same is an error.
func TestSilent(t *testing.T) {
	r := onHost(filters.Ruleset{})
	if text, err := r.silent(t.Context(), "promise", func(context.Context) []string { return nil }); text != "promise" || err != nil {
		t.Errorf("got %q, %v", text, err)
	}
	if _, err := r.silent(t.Context(), "promise", func(context.Context) []string { return []string{"reached a", "reached b"} }); err == nil || !strings.Contains(err.Error(), "reached a, reached b") {
		t.Errorf("got %v", err)
	}
}

// Where a trail ends, there the packets vanished.
func TestExplainTrail(t *testing.T) {
	at := func(hooks ...hookAt) (list []sight) {
		for _, h := range hooks {
			list = append(list, sight{Event: trace.Event{In: 2, Out: 2}, at: h})
		}
		return list
	}
	ping := guest.Flow{Src: guestAddr, Dst: gateway, Protocol: guest.ICMP, ID: 7}
	discover := guest.Flow{Dst: guest.LimitedBroadcast, Protocol: guest.UDP, ID: 68, Port: 67}
	for name, c := range map[string]struct {
		trail    trail
		flow     guest.Flow
		filtered bool
		want     string
	}{
		"at the tap":                  {trail{back: at(through, toGuest)}, web, false, "look for a tc filter or an XDP program on qnweb0"},
		"between IP and the tap":      {trail{back: at(sent)}, web, false, "look for a filter of ebtables-legacy or tc on qn-dev"},
		"reply, by rp_filter":         {trail{back: at(atHost)}, web, true, "sysctl -w net.ipv4.conf.eth0.rp_filter=2"},
		"in the host":                 {trail{out: at(atHost, toHost)}, web, false, "the host takes the packet in and nothing on it answers tcp to 203.0.113.1:80"},
		"at the router, by rp_filter": {trail{out: at(atHost)}, web, true, "dropped by rp_filter on qn-dev"},
		"on the bridge":               {trail{}, discover, false, "tap qnweb0 is no port of bridge qn-dev any more"},
		"a ping to the host":          {trail{out: at(toHost)}, ping, false, "nothing on it answers ping to 192.168.223.1"},
	} {
		if got := onHost(filters.Ruleset{}).explainTrail(t.Context(), c.trail, c.flow, c.filtered); !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
