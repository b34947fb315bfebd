package cli

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
)

// counter counts, in a network namespace ("" is the host), the packets at a hook
// that match, from before any filter.
func counter(t *testing.T, ns, hook, match string) (packets func() string) {
	t.Helper()
	nft := "nft"
	if ns != "" {
		nft = "ip netns exec " + ns + " nft"
	}
	lab.Sh(t, nft+` -f - <<'EOF'
table inet probe_`+hook+` {
	chain seen {
		type filter hook `+hook+` priority -450; policy accept;
		`+match+` counter
	}
}
EOF`)
	t.Cleanup(func() { lab.Try(nft + " delete table inet probe_" + hook) })
	count := regexp.MustCompile(`packets (\d+)`)
	return func() string {
		return count.FindStringSubmatch(lab.Sh(t, nft+" list table inet probe_"+hook))[1]
	}
}

// serve runs a web server in a namespace; "" is the host.
func serve(l *testHost, ns, address, words string) {
	l.Helper()
	dir := filepath.Join(l.dir, "www-"+ns)
	lab.Sh(l, "mkdir "+dir+"; echo '"+words+"' > "+dir+"/index.html")
	args := []string{"busybox", "httpd", "-f", "-p", address + ":80", "-h", dir}
	if ns != "" {
		args = append([]string{"ip", "netns", "exec", ns}, args...)
	}
	background(l, args...)
}

// background runs a program until the test's end.
func background(l *testHost, args ...string) {
	l.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	wait, err := lab.Start(cmd)
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() {
		cmd.Process.Kill()
		wait()
	})
}

func (l *testHost) hostFetches(url, words string) {
	l.Helper()
	lab.Eventually(l, 10*time.Second, "the host fetches "+url, func() bool {
		out, err := lab.Try("timeout 5 busybox wget -q -O - " + url)
		return err == nil && strings.Contains(out, words)
	})
}

// linkLocal is the IPv6 address a bridge would have (RFC 4291, appendix A).
func linkLocal(t *testing.T, link string) (mac, address string) {
	t.Helper()
	mac = strings.TrimSpace(lab.Sh(t, "cat /sys/class/net/"+link+"/address"))
	var b [6]byte
	if _, err := fmt.Sscanf(mac, "%x:%x:%x:%x:%x:%x", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5]); err != nil {
		t.Fatal(err)
	}
	return mac, fmt.Sprintf("fe80::%02x%02x:%02xff:fe%02x:%02x%02x", b[0]^2, b[1], b[2], b[3], b[4], b[5])
}

const privateNIC = "[[nic]]\nmode = \"private\"\n"

// A private network carries frames between its VMs and to no other host, however a guest
// configures itself, and though another program turned forwarding on.
func TestPrivate(t *testing.T) {
	inLab(t, func(l *testHost) {
		lab.Sh(t, "sysctl -qw net/ipv4/ip_forward=1 net/ipv6/conf/all/forwarding=1")
		// With br_netfilter, frames from VM to VM pass the other hooks too.
		toHost := counter(l.T, "", "input", `iifname "qn-private"`)
		throughHost := counter(l.T, "", "forward", `iifname "qn-private" oifname != "qn-private"`)
		atInternet := counter(l.T, "inet", "prerouting", "ip daddr 203.0.113.1")
		serve(l, "", "192.0.2.10", "hello from the host")
		l.prepared()

		a := l.boot("a", vm(l, "a", "qnet.net0=10.55.0.1/24 qnet.shell")+privateNIC)
		b := l.boot("b", vm(l, "b", "qnet.net0=10.55.0.2/24 qnet.httpd qnet.shell")+privateNIC)
		a.must("ping -c 1 -W 2 10.55.0.2")
		if out := a.must("wget -q -O - http://10.55.0.2/"); !strings.Contains(out, "hello from the guest") {
			t.Errorf("VM to VM: %q", out)
		}

		mac, ll := linkLocal(t, "qn-private")
		a.fails("IPv6 link-local of the bridge", "ping -6 -c 1 -W 1 "+ll+"%eth0")
		a.sh("ping -6 -c 2 -W 1 ff02::1%eth0") // the other VM answers; the host must not, see the counter
		a.must("ip addr add 192.0.2.77/24 dev eth0")
		a.fails("a LAN address", "ping -c 1 -W 1 192.0.2.10")
		a.must("arp -s 192.0.2.10 " + mac)
		a.fails("a LAN address and static ARP", "ping -c 1 -W 1 192.0.2.10")
		a.must("ip route add default via 192.0.2.10")
		a.fails("the host as gateway", "ping -c 1 -W 1 203.0.113.1")
		b.must("ip addr add 192.0.2.10/32 dev eth0; arp -s 10.55.0.254 " + mac + "; ip route add default via 10.55.0.254")
		b.fails("the host's own address", "ping -c 1 -W 1 -I 192.0.2.10 192.0.2.1")

		if n, m := toHost(), throughHost(); n != "0" || m != "0" {
			t.Errorf("%s packets reached the host's IP stack, %s passed it", n, m)
		}
		if n := atInternet(); n != "0" {
			t.Errorf("%s packets reached the Internet", n)
		}
		if out := lab.Sh(t, "ip neigh show dev qn-private; ip -6 neigh show dev qn-private"); out != "" {
			t.Errorf("the host learned neighbours: %s", out)
		}
		l.must("stop", "--force", "a")
		l.must("stop", "--force", "b")
		l.before.Check(t)
	})
}

// On a host-only network, host and guest reach each other. No packet leaves or enters by
// another link, though another program turned forwarding on.
func TestHostOnly(t *testing.T) {
	inLab(t, func(l *testHost) {
		lab.Sh(t, "sysctl -qw net/ipv4/ip_forward=1 net/ipv6/conf/all/forwarding=1; ip netns exec inet ip route add 10.56.0.0/24 via 192.0.2.10")
		atInternet := counter(l.T, "inet", "prerouting", "ip daddr { 203.0.113.1, 192.0.2.1 }")
		serve(l, "", "0.0.0.0", "hello from the host")
		l.prepared()

		g := l.boot("h", vm(l, "h", "qnet.net0=10.56.0.9/24,10.56.0.1 qnet.httpd qnet.shell")+`
[[nic]]
mode = "host-only"
address = "10.56.0.9"
[network.host-only]
subnet = "10.56.0.0/24"
`)
		if out := g.must("ping -c 1 -W 2 10.56.0.1 && wget -q -O - http://10.56.0.1/"); !strings.Contains(out, "hello from the host") {
			t.Errorf("guest to host: %q", out)
		}
		l.hostFetches("http://10.56.0.9/", "hello from the guest")
		g.fails("the Internet", "ping -c 1 -W 1 203.0.113.1")
		g.fails("the host's LAN", "ping -c 1 -W 1 192.0.2.1")
		if lab.Pings("inet", "10.56.0.9") {
			t.Error("the LAN reaches the guest")
		}
		mac, ll := linkLocal(t, "qn-host-only")
		g.fails("IPv6 link-local of the bridge", "ping -6 -c 1 -W 1 "+ll+"%eth0")
		g.must("ip addr add 192.0.2.77/24 dev eth0; arp -s 192.0.2.10 " + mac)
		g.fails("a LAN address and static ARP", "ping -c 1 -W 1 -I 192.0.2.77 192.0.2.10")
		g.fails("a LAN address towards the LAN", "arp -s 192.0.2.1 "+mac+"; ping -c 1 -W 1 -I 192.0.2.77 192.0.2.1")
		if n := atInternet(); n != "0" {
			t.Errorf("%s packets left the host", n)
		}
		l.must("stop", "--force", "h")
		l.before.Check(t)
	})
}

const natDev = `
[network.dev]
subnet = "10.57.0.0/24"
`

func natNIC(address string) string {
	return "[[nic]]\nmode = \"nat\"\nnetwork = \"dev\"\naddress = \"" + address + "\"\n"
}

// Two VMs with two NICs each: on one network behind NAT, and on a private one.
func TestNATAndTwoNICs(t *testing.T) {
	inLab(t, func(l *testHost) {
		fromSubnet := counter(l.T, "inet", "prerouting", "ip saddr 10.57.0.0/24")
		serve(l, "inet", "203.0.113.1", "hello from the Internet")
		l.prepared()

		backend := "[[nic]]\nmode = \"private\"\nnetwork = \"backend\"\n"
		a := l.boot("a", vm(l, "a", "qnet.net0=10.57.0.10/24,10.57.0.1 qnet.net1=10.58.0.1/24 qnet.httpd qnet.shell")+natNIC("10.57.0.10")+backend+natDev)
		b := l.boot("b", vm(l, "b", "qnet.net0=10.57.0.11/24,10.57.0.1 qnet.net1=10.58.0.2/24 qnet.shell")+natNIC("10.57.0.11")+backend+natDev)
		for _, g := range []*console{a, b} {
			if out := g.must("ping -c 1 -W 2 10.57.0.1 && wget -q -O - http://203.0.113.1/"); !strings.Contains(out, "hello from the Internet") {
				t.Errorf("%s to the Internet: %q", g.name, out)
			}
		}
		b.must("ping -c 1 -W 2 10.57.0.10 && wget -q -O - http://10.57.0.10/")
		b.must("ping -c 1 -W 2 10.58.0.1 && wget -q -O - http://10.58.0.1/")
		l.hostFetches("http://10.57.0.10/", "hello from the guest")
		lab.Sh(t, "ip netns exec inet ip route add 10.57.0.0/24 via 192.0.2.10")
		if lab.Pings("inet", "10.57.0.10") {
			t.Error("the LAN reaches the guest, uninvited")
		}
		if n := fromSubnet(); n != "0" {
			t.Errorf("%s packets left the host with a guest's address", n)
		}
		if out := l.must("net"); strings.Count(out, "a,b") != 2 {
			t.Errorf("qnet net:\n%s", out)
		}
		if out := l.must("ps"); strings.Count(out, "nat") != 2 || strings.Count(out, "private") != 2 {
			t.Errorf("qnet ps:\n%s", out)
		}

		// The first VM to leave keeps the network for the other.
		l.must("stop", "a")
		b.must("wget -q -O - http://203.0.113.1/")
		l.must("stop", "b")
		l.before.Check(t)
	})
}

// A bridged VM is on the LAN, whose DHCP server gives it its address: by a NIC
// without an address, and by a bridge that exists.
func TestBridge(t *testing.T) {
	for uplink, prepare := range map[string]string{
		"lan0": "true",
		"br0": `ip link add br0 type bridge; sysctl -qw net/ipv6/conf/br0/disable_ipv6=1
			ip link set lan0 master br0 up; ip link set br0 up
			until ip link show br0 | grep -q "state UP"; do sleep 0.1; done`,
	} {
		t.Run(uplink, func(t *testing.T) {
			inLab(t, func(l *testHost) {
				lab.FreeNIC(l, l.dir)
				lab.Sh(t, prepare)
				l.prepared()
				g := l.boot("b", vm(l, "b", "qnet.net0=dhcp qnet.httpd qnet.shell")+
					"[[nic]]\nmode = \"bridge\"\n[network.bridge]\nuplink = \""+uplink+"\"\n")
				out := g.must("ip -4 -o addr show dev eth0; ip route")
				address := regexp.MustCompile(`198\.51\.100\.\d+/24`).FindString(out)
				if address == "" || !strings.Contains(out, "default via 198.51.100.1") {
					t.Fatalf("no lease of the LAN's: %s", out)
				}
				g.must("ping -c 1 -W 2 198.51.100.1")
				lab.Sh(t, "ip netns exec lan timeout 5 busybox wget -q -O - http://"+strings.TrimSuffix(address, "/24")+"/")
				l.must("stop", "b")
				l.before.Check(t)
			})
		})
	}
}
