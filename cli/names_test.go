package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
)

// resolver gives the host a name server behind its uplink, that knows example.com.
func resolver(l *testHost) {
	l.Helper()
	lab.Require(l, lab.Program("dnsmasq"))
	background(l, "ip", "netns", "exec", "inet", "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--group=",
		"--no-resolv", "--no-hosts", "--listen-address=203.0.113.1", "--bind-interfaces", "--address=/example.com/203.0.113.80",
		"--pid-file="+filepath.Join(l.dir, "resolver.pid"))
	conf := filepath.Join(l.dir, "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver 203.0.113.1\n"), 0o644); err != nil {
		l.Fatal(err)
	}
	target, err := filepath.EvalSymlinks("/etc/resolv.conf")
	if err == nil {
		err = unix.Mount(conf, target, "", unix.MS_BIND, "")
	}
	if err != nil {
		l.Fatal(err)
	}
}

func dhcpVM(l *testHost, name, mode, more string) string {
	l.Helper()
	return vm(l, name, "qnet.net0=dhcp qnet.httpd qnet.shell") + "[[nic]]\nmode = \"" + mode + "\"\nnetwork = \"dev\"\n" + more
}

// Guests get address, gateway, resolver and name without configuration, and the same
// address at every run. Host and guests find each other by name.
func TestLeasesAndNames(t *testing.T) {
	inLab(t, func(l *testHost) {
		serve(l, "inet", "203.0.113.1", "hello from the Internet")
		resolver(l)
		l.prepared()
		web := l.boot("web", dhcpVM(l, "web", "nat", ""))
		db := l.boot("db", dhcpVM(l, "db", "nat", ""))

		address := strings.TrimSpace(l.must("ip", "web"))
		if out := web.must("ip -4 -o addr show dev eth0; ip route; cat /etc/resolv.conf; hostname"); !strings.Contains(out, address+"/24") ||
			!strings.Contains(out, "default via ") || !strings.Contains(out, "search qnet") || !strings.Contains(out, "\nweb\r\n") {
			t.Errorf("the lease of %s in the guest: %s", address, out)
		}
		for _, name := range []string{"db", "db.qnet", "host", "host.qnet", "web"} {
			web.must("ping -c 1 -W 2 " + name)
		}
		db.must("ping -c 1 -W 2 web && wget -q -O - http://web/ && wget -q -O - http://203.0.113.1/")
		if out := db.must("nslookup -type=a example.com"); !strings.Contains(out, "203.0.113.80") {
			t.Errorf("a name of the outside: %s", out)
		}
		if out := db.must("nslookup " + address); !strings.Contains(out, "web.qnet") {
			t.Errorf("reverse: %s", out)
		}
		db.fails("a name that is none", "nslookup nobody.qnet")

		if out := l.must("wait", "--for", "ping", "web"); strings.TrimSpace(out) != address {
			t.Errorf("wait for ping says %q", out)
		}
		l.must("wait", "web", "--for", "port:80", "--timeout", "20s")
		l.refused(exitFailure, []string{"port 81", "nothing listens"}, "wait", "--for", "port:81", "--timeout", "1s", "web")
		l.refused(exitUsage, []string{"address, ping, port:N"}, "wait", "--for", "luck", "web")
		if out := l.must("hosts"); !strings.Contains(out, address+"\tweb.qnet web\n") || !strings.Contains(out, "db.qnet db") {
			t.Errorf("hosts: %s", out)
		}
		if out := l.must("net"); strings.Count(out, "taken") != 2 || !strings.Contains(out, address) {
			t.Errorf("net: %s", out)
		}
		if out := l.must("ip", "--json", "web"); !strings.Contains(out, address) || !strings.Contains(out, `"stage": "DNS answer"`) {
			t.Errorf("ip --json: %s", out)
		}
		l.keeperKilled(web)
		l.sshReaches(web)

		// The same address again, with and without the lease file.
		l.must("stop", "--force", "db")
		l.must("stop", "--force", "web")
		l.before.Check(t)
		lab.Sh(t, "rm -r "+l.dir+"/state/leases")
		l.must("run", "-d", l.dir+"/web.toml")
		if again := strings.TrimSpace(l.must("wait", "web")); again != address {
			t.Errorf("%s became %s", address, again)
		}
		l.must("stop", "--force", "web")
	})
}

// keeperKilled kills the network's keeper; names work again with the next one.
func (l *testHost) keeperKilled(g *console) {
	l.Helper()
	l.keeperReplaced("db,web")
	g.must("ping -c 1 -W 2 db && wget -q -O - http://203.0.113.1/")
	g.must("udhcpc -n -q -t 3 -T 1 -i eth0 -s /etc/udhcpc.sh")
}

// sshReaches waits for the port and hands over to ssh, with a file of host keys
// of its own.
func (l *testHost) sshReaches(g *console) {
	l.Helper()
	g.must("(while :; do echo SSH-2.0-test | nc -l -p 22 -w 1; done) > /dev/null 2>&1 &")
	bin := filepath.Join(l.dir, "bin")
	lab.Sh(l, "mkdir "+bin+"; printf '#!/bin/sh\\necho \"$@\"; exit 7\\n' > "+bin+"/ssh; chmod +x "+bin+"/ssh")
	env := l.env
	defer func() { l.env = env }()
	l.env = append(l.env[:len(l.env):len(l.env)], "PATH="+bin+":"+os.Getenv("PATH"))
	code, out, errout := l.qnet("ssh", g.name, "-l", "root", "--", "uname", "-r")
	if code != 7 || !strings.Contains(out, "-l root -- ") || !strings.Contains(out, "uname -r") || !strings.Contains(out, "UserKnownHostsFile="+l.dir) {
		l.Errorf("ssh: exit code %d, %q, %q", code, out, errout)
	}
}

// The lease arrives though a firewall drops all input and all forwarding; a
// guest whose host-only lease says so has no default route.
func TestLeaseThroughFirewall(t *testing.T) {
	inLab(t, func(l *testHost) {
		lab.Sh(t, `nft -f - <<'EOF'
table ip filter {
	chain INPUT { type filter hook input priority 0; policy drop; }
	chain FORWARD { type filter hook forward priority 0; policy drop; }
}
EOF`)
		l.prepared()
		g := l.boot("g", dhcpVM(l, "g", "host-only", ""))
		address := strings.TrimSpace(l.must("wait", "g"))
		if out := g.must("ip -4 -o addr show dev eth0; ip route"); !strings.Contains(out, address+"/24") || strings.Contains(out, "default") {
			t.Errorf("the lease of %s in the guest: %s", address, out)
		}
		l.must("stop", "--force", "g")
	})
}

// In the modes private and bridge, qnet learns the address from the guest's own frames.
// It says at which stage a guest is stuck.
func TestAddressFromFrames(t *testing.T) {
	inLab(t, func(l *testHost) {
		lab.FreeNIC(l, l.dir)
		l.prepared()
		l.boot("b", vm(l, "b", "qnet.net0=dhcp qnet.shell")+"[[nic]]\nmode = \"bridge\"\n[network.bridge]\nuplink = \"lan0\"\n")
		if out := l.must("ip", "b"); !strings.HasPrefix(out, "198.51.100.") {
			t.Errorf("bridge: %q", out)
		}
		l.must("stop", "--force", "b")

		p := l.boot("p", vm(l, "p", "qnet.shell")+privateNIC)
		l.refused(exitFailure, []string{"no frame", "qnet console p"}, "wait", "--timeout", "300ms", "p")
		l.refused(exitFailure, []string{"none yet", "qnet wait p"}, "ip", "p")
		p.must("ip link set eth0 up")
		l.refused(exitFailure, []string{"last stage: first frame", "no DHCP client"}, "wait", "--timeout", "2s", "p")
		p.sh("udhcpc -n -q -t 1 -T 1 -i eth0 -s /etc/udhcpc.sh")
		l.refused(exitFailure, []string{"last stage: DISCOVER", "has no DHCP server"}, "wait", "--timeout", "300ms", "p")
		l.refused(exitUsage, []string{"private network"}, "wait", "--for", "ping", "p")
		p.must("ip addr add 10.9.8.7/24 dev eth0; ping -c 1 -W 1 10.9.8.6 || true")
		if out := l.must("wait", "p"); out != "10.9.8.7\n" {
			t.Errorf("private: %q", out)
		}
		l.must("stop", "--force", "p")
	})
}

// A VM without an image boots from the network: QEMU's iPXE takes a lease and
// asks for the file the profile names.
func TestNetboot(t *testing.T) {
	lab.Require(t, lab.Need{Name: "package ipxe-qemu", OK: func() bool {
		_, err := os.Stat("/usr/lib/ipxe/qemu/pxe-virtio.rom")
		return err == nil
	}})
	inLab(t, func(l *testHost) {
		p := l.start("run", l.profile("pxe", idle+`[[nic]]
mode = "nat"
address = "10.57.0.77"
[network.nat]
subnet = "10.57.0.0/24"
[network.nat.pxe]
file = "boot/pxelinux.0"
`))
		p.says("10.57.0.77/255.255.255.0 gw 10.57.0.1", 40*time.Second)
		p.says("tftp://10.57.0.1/boot/pxelinux.0", 20*time.Second)
		if out := l.must("ip", "pxe"); out != "10.57.0.77\n" {
			t.Errorf("got %q", out)
		}
		l.must("stop", "--force", "pxe")
		p.end(10 * time.Second)
	})
}
