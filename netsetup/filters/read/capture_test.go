package read

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lab/programs"
	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/nft"
)

// update makes TestCapture write its files anew:
//
//	go test ./netsetup/filters/read -run TestCapture -update
var update = flag.Bool("update", false, "capture the rulesets of real programs again, as root")

// updateEnv carries the flag into the namespaces of a test, see lab.Run.
const updateEnv = "QNET_CAPTURE_TO"

// captured are the programs whose rulesets the tests of this package and of package
// filters use. Those with a script alone are captured again in every run.
var captured = []struct {
	name      string
	program   programs.Program
	script    string
	needs     []lab.Need // of the script
	rulesOnly bool       // another recording has all that the decoders meet in it
}{
	{name: "docker", program: programs.Docker(), rulesOnly: true},
	{name: "ufw", program: programs.UFW(), rulesOnly: true},
	{name: "ufw-and-docker", program: programs.Together(programs.UFW(), programs.Docker())},
	{name: "firewalld", program: programs.Firewalld().Program},
	{name: "libvirt", program: programs.Libvirt()},
	{name: "iptables-nft", program: programs.IPTables("nft")},
	{name: "iptables-legacy", program: programs.IPTables("legacy")},
	{name: "nftables-conf", program: programs.NFTables()},
	{name: "wg-quick", program: programs.VPN("policy rules")},
	{name: "mullvad", script: programs.KillSwitches[0].Script},
	{name: "nordvpn", script: programs.KillSwitches[3].Script},
	{name: "sets-and-maps", script: setsAndMaps},
	{name: "xtables", script: xtables, needs: []lab.Need{lab.Legacy}},
	{name: "ebtables", script: "ebtables-nft -P FORWARD DROP; ebtables-nft -A FORWARD -p ARP -j ACCEPT", needs: []lab.Need{lab.Program("ebtables-nft")}},
}

// setsAndMaps uses what nft(8) compiles to lookups, ranges and masks.
const setsAndMaps = `ip link add br0 type bridge
nft -f - <<'EOF'
table inet filter {
	set lan { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 172.16.0.0/12, 255.255.255.0/24 } }
	set hosts { type ipv6_addr; elements = { fd00::1 } }
	set pairs { type ifname . inet_service; flags interval; elements = { "eth0" . 5000-5005, "wlan0" . 5001 } }
	set none { type mark; }
	chain input {
		type filter hook input priority 0; policy drop;
		iif "lo" accept
		ct state vmap { established : accept, related : accept, invalid : drop }
		ip saddr @lan accept comment "the lan"
		ip6 saddr @hosts accept
		iifname . th dport @pairs accept
		meta mark @none drop
		tcp dport { 22, 80-90 } accept
		tcp dport 1000-2000 tcp flags & (syn | ack) == syn jump services
		ip daddr 192.168.0.0/16 ct status dnat accept
		fib saddr type != local meta pkttype multicast drop
		meta skuid 7 accept
		limit rate 1/second accept
		udp dport != 53 goto services
	}
	chain services {
		counter
		meta l4proto { icmp, ipv6-icmp } accept
		return
	}
}
table netdev ingress {
	chain in { type filter hook ingress device "br0" priority -10; policy accept; ether type arp drop; }
}
table ip translate {
	chain dstnat { type nat hook prerouting priority -100; policy accept; tcp dport 8080 redirect to :80; }
	chain srcnat { type nat hook postrouting priority 100; policy accept; oifname "eth*" masquerade; }
}
EOF`

// xtables has each module of iptables that package read understands, and some that it
// does not, in both engines.
const xtables = `
for v in "" 6; do for e in nft legacy; do
	i=ip${v}tables-$e
	$i -N mine
	$i -P FORWARD DROP
	$i -A INPUT ! -i eth0 -j mine
	$i -A FORWARD -i qn+ -o eth+ -g mine
	$i -A INPUT -p tcp -m tcp ! --sport 1000:2000 --dport 80 -j DROP
	$i -A INPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j LOG
	$i -A INPUT -p tcp -m tcp --tcp-option 5 -j DROP
	$i -A INPUT -p udp -m udp --sport 67 --dport 68 -j ACCEPT
	$i -A INPUT -p udp -m multiport --dports 53,100:200,5353 -j ACCEPT
	$i -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
	$i -A INPUT -m conntrack ! --ctstate NEW,DNAT -j RETURN
	$i -A INPUT -m conntrack --ctproto 6 -j RETURN
	$i -A INPUT -m addrtype ! --src-type LOCAL --dst-type UNICAST -j ACCEPT
	$i -A INPUT -m mark --mark 0x8000/0x8000 -j DROP
	$i -A INPUT -m connmark ! --mark 0x1 -j CONNMARK --save-mark
	$i -A INPUT -m pkttype --pkt-type broadcast -j DROP
	$i -A INPUT -m limit --limit 1/sec -j ACCEPT
	$i -A INPUT -m comment --comment "two words" -j NFQUEUE --queue-num 3
	$i -A FORWARD -m physdev --physdev-in qn+ --physdev-is-bridged -j ACCEPT
	$i -A mine -j REJECT
	$i -t raw -A PREROUTING -m rpfilter --loose --invert -j DROP
	$i -t nat -A POSTROUTING -o eth0 -j MASQUERADE
done; done
for e in nft legacy; do
	iptables-$e -A INPUT -s 10.1.2.3/32 ! -d 192.168.0.0/16 -f -j ACCEPT
	iptables-$e -A INPUT -p icmp -m icmp --icmp-type 8 -j ACCEPT
	ip6tables-$e -A INPUT -s fe80::/10 -p ipv6-icmp -m icmp6 ! --icmpv6-type 135 -j ACCEPT
done`

// recording is what the kernel replied while a snapshot was taken.
type recording struct {
	Links     map[uint32]string `json:"links,omitempty"`
	Exchanges []exchange        `json:"exchanges,omitempty"`
	Legacy    []legacyBlob      `json:"legacy,omitempty"`
}

// exchange is one request to nftables with the data of the messages of its reply.
type exchange struct {
	Type    uint16   `json:"type"`
	Request []byte   `json:"request"`
	Replies [][]byte `json:"replies"`
}

// legacyBlob is a table of iptables-legacy.
type legacyBlob struct {
	Family nft.Family `json:"family"`
	Table  string     `json:"table"`
	Info   []byte     `json:"info"`
	Blob   []byte     `json:"blob"`
}

// recorder is a conn that records.
type recorder struct {
	conn
	*recording
}

func (r recorder) Execute(m netlink.Message) ([]netlink.Message, error) {
	replies, err := r.conn.Execute(m)
	e := exchange{Type: uint16(m.Header.Type), Request: m.Data}
	for _, reply := range replies {
		e.Replies = append(e.Replies, reply.Data)
	}
	r.Exchanges = append(r.Exchanges, e)
	return replies, err
}

// Execute makes a recording a conn.
func (r *recording) Execute(m netlink.Message) ([]netlink.Message, error) {
	i := slices.IndexFunc(r.Exchanges, func(e exchange) bool {
		return e.Type == uint16(m.Header.Type) && bytes.Equal(e.Request, m.Data)
	})
	if i < 0 {
		return nil, unix.ENOENT
	}
	var replies []netlink.Message
	for _, data := range r.Exchanges[i].Replies {
		replies = append(replies, netlink.Message{Data: slices.Clone(data)})
	}
	return replies, nil
}

// tables decodes a recording.
func (r *recording) tables() ([]filters.Table, error) {
	s := &source{conn: r, links: r.Links}
	if s.links == nil {
		s.links = map[uint32]string{}
	}
	tables, err := s.consistent()
	if err != nil {
		return nil, err
	}
	for _, l := range r.Legacy {
		for _, f := range legacyFamilies {
			if f.family != l.Family {
				continue
			}
			t, err := f.table(l.Table, l.Info, l.Blob)
			if err != nil {
				return nil, err
			}
			tables = append(tables, t)
		}
	}
	return tables, nil
}

// record takes a snapshot of the test's namespace and records it.
func record(t *testing.T) (*recording, filters.Ruleset) {
	t.Helper()
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rec := &recording{}
	s := &source{conn: recorder{c, rec}}
	if _, err := s.consistent(); err != nil {
		t.Fatal(err)
	}
	rec.Links = s.links
	for _, f := range legacyFamilies {
		b, _ := os.ReadFile(f.names)
		for name := range strings.FieldsSeq(string(b)) {
			info, blob, err := f.blob(name)
			if err != nil {
				t.Fatal(err)
			}
			entries, err := f.entries(blob)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				clear(e.data[f.entrySize-16 : f.entrySize]) // the counters
			}
			rec.Legacy = append(rec.Legacy, legacyBlob{f.family, name, info, blob})
		}
	}
	return rec, withoutCounters(Ruleset())
}

func withoutCounters(r filters.Ruleset) filters.Ruleset {
	for _, t := range r.Tables {
		for i := range t.Chains {
			t.Chains[i].Packets = 0
			for j := range t.Chains[i].Rules {
				t.Chains[i].Rules[j].Packets = 0
			}
		}
	}
	return r
}

// TestCapture captures the rulesets again and compares those that depend on no version
// of a program. With -update it captures all and writes them to testdata.
func TestCapture(t *testing.T) {
	if *update {
		dir, err := filepath.Abs(".")
		if err != nil {
			t.Fatal(err)
		}
		os.Setenv(updateEnv, dir) //nolint:usetesting // labs run in parallel, where T forbids it
	}
	dir := os.Getenv(updateEnv)
	for _, c := range captured {
		t.Run(c.name, func(t *testing.T) {
			if dir == "" && c.script == "" {
				t.Skip("captured with -update only")
			}
			lab.Require(t, slices.Concat([]lab.Need{lab.Program("nft"), lab.Program("iptables-nft")}, c.needs, c.program.Needs)...)
			lab.Run(t, func(t *testing.T) {
				lab.Sh(t, "[ ! -d /proc/sys/net/bridge ] || sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0")
				if c.script == "" {
					lab.Uplink(t)
					c.program.Start(t)
				} else {
					lab.Sh(t, c.script)
				}
				rec, rules := record(t)
				if dir != "" {
					if !c.rulesOnly {
						write(t, filepath.Join(dir, "testdata", c.name+".json"), rec)
					}
					write(t, filepath.Join(dir, "../testdata", c.name+".json"), rules)
					return
				}
				if got, want := encoded(t, rules.Tables), encoded(t, ruleset(t, c.name).Tables); got != want {
					t.Errorf("another ruleset than that in testdata; see -update:\n%s", lines(want, got))
				}
			})
		})
	}
}

// lines are those of b that a lacks.
func lines(a, b string) string {
	var diff []string
	for line := range strings.Lines(b) {
		if !strings.Contains(a, line) {
			diff = append(diff, line)
		}
	}
	return strings.Join(diff, "")
}

func encoded(t *testing.T, v any) string {
	t.Helper()
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b) + "\n"
}

func write(t *testing.T, path string, v any) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(encoded(t, v)), 0o644); err != nil {
		t.Fatal(err)
	}
}

func loadJSON(t *testing.T, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// ruleset is a captured ruleset.
func ruleset(t *testing.T, name string) (r filters.Ruleset) {
	t.Helper()
	loadJSON(t, filepath.Join("../testdata", name+".json"), &r)
	return r
}

// The decoders turn what the kernel replied on another host into the ruleset that was
// read there. They need no kernel for that, and no rights.
func TestDecode(t *testing.T) {
	for _, c := range captured {
		if c.rulesOnly {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			var rec recording
			loadJSON(t, filepath.Join("testdata", c.name+".json"), &rec)
			tables, err := rec.tables()
			if err != nil {
				t.Fatal(err)
			}
			got := encoded(t, withoutCounters(filters.Ruleset{Tables: tables}).Tables)
			if want := encoded(t, ruleset(t, c.name).Tables); got != want {
				t.Errorf("decoded otherwise:\n%s", lines(want, got))
			}
		})
	}
}
