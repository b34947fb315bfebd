package programs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/profiles"
)

// serve runs web servers on the host's ports 8080 and 8081.
func serve(t testing.TB) {
	t.Helper()
	for _, port := range []string{"8080", "8081"} {
		lab.Daemon(t, "busybox", "httpd", "-f", "-p", port, "-h", t.TempDir())
	}
}

// guards checks that a firewall opens port 8080 and no other.
func guards(testing.TB) error {
	if !lab.Fetches("inet", "192.0.2.10:8080") {
		return errors.New("port 8080 of the host is open, and does not answer")
	}
	if lab.Fetches("inet", "192.0.2.10:8081") {
		return errors.New("port 8081 of the host is closed, and answers")
	}
	return nil
}

// UFW is the real ufw, enabled with Debian's defaults and port 8080 open. Web servers
// listen on ports 8080 and 8081 of the host.
func UFW() Program {
	return Program{
		Name:  "ufw",
		Needs: []lab.Need{lab.Root, lab.Program("ufw"), lab.Program("busybox")},
		Start: func(t testing.TB) {
			t.Helper()
			privateCopy(t, "/etc/ufw", "/etc/default", "/lib/ufw")
			serve(t)
			lab.Sh(t, "ufw allow 8080/tcp > /dev/null; ufw --force enable > /dev/null")
		},
		Reload: func(t testing.TB) { lab.Sh(t, "ufw reload") },
		Works: func(t testing.TB) error {
			if status, err := lab.Try("ufw status"); err != nil || !strings.Contains(status, "Status: active") {
				return errors.New("ufw says: " + status)
			}
			return guards(t)
		},
		State: func(t testing.TB) string {
			return filters(t) + lab.Sh(t, "ufw status verbose; find /etc/ufw /lib/ufw /etc/default/ufw -type f | sort | xargs sha256sum")
		},
		Version: func() string { return version("ufw", "ufw version | sed -n 's/^ufw //p'") },
		Refuses: never,
	}
}

// privateCopy replaces directories by copies, in this mount namespace.
func privateCopy(t testing.TB, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		tmp := t.TempDir()
		lab.Sh(t, "cp -a "+dir+"/. "+tmp+"; mount --bind "+tmp+" "+dir)
		t.Cleanup(func() { lab.Try("umount " + dir) })
	}
}

// policies is the filter of an administrator who writes iptables rules. It drops what
// comes in, except to port 8080, and what is forwarded.
const policies = `*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p tcp -m tcp --dport 8080 -j ACCEPT
COMMIT
`

// IPTables is an administrator's DROP policies in one of the two engines, "nft" or
// "legacy". br_netfilter is on.
func IPTables(engine string) Program {
	load := func(t testing.TB) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "rules")
		if err := os.WriteFile(path, []byte(policies), 0o644); err != nil {
			t.Fatal(err)
		}
		lab.Sh(t, "iptables-"+engine+"-restore "+path+"; ip6tables-"+engine+"-restore "+path)
	}
	needs := []lab.Need{lab.Namespaces, lab.Program("iptables-" + engine + "-restore"), lab.Program("busybox")}
	if engine == "legacy" {
		needs = append(needs, lab.Legacy)
	}
	return Program{
		Name:  "iptables-" + engine,
		Needs: needs,
		Start: func(t testing.TB) {
			t.Helper()
			lab.Sh(t, "[ ! -d /proc/sys/net/bridge ] || sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1")
			serve(t)
			load(t)
		},
		Reload:  load,
		Works:   guards,
		State:   filters,
		Version: func() string { return version("iptables", "iptables-"+engine+" --version | sed 's/.* v//'") },
		Refuses: never,
	}
}

// nftablesConf is Debian's example of an /etc/nftables.conf for a workstation, which also
// drops what is forwarded.
const nftablesConf = `flush ruleset

table inet filter {
	chain input {
		type filter hook input priority 0; policy drop;
		iif lo accept
		ct state established,related accept
		tcp dport 8080 accept
		ip protocol icmp accept
	}
	chain forward {
		type filter hook forward priority 0; policy drop;
	}
	chain output {
		type filter hook output priority 0; policy accept;
	}
}
`

// NFTables is a plain /etc/nftables.conf with drop policies. qnet does not edit it and
// tells the user what to add.
func NFTables() Program {
	load := func(t testing.TB) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "nftables.conf")
		if err := os.WriteFile(path, []byte(nftablesConf), 0o644); err != nil {
			t.Fatal(err)
		}
		lab.Sh(t, "nft -f "+path)
	}
	return Program{
		Name:  "nftables.conf",
		Needs: []lab.Need{lab.Namespaces, lab.Program("nft"), lab.Program("busybox")},
		Start: func(t testing.TB) {
			t.Helper()
			serve(t)
			load(t)
		},
		Reload:  load,
		Works:   guards,
		State:   filters,
		Version: func() string { return version("nftables", "nft --version | sed 's/nftables v//; s/ .*//'") },
		Refuses: func(m profiles.Mode) string {
			if m == profiles.HostOnly || m == profiles.NAT {
				return "nft insert rule inet filter input iifname"
			}
			return ""
		},
	}
}

// Together is several programs at once, started in this order.
func Together(list ...Program) Program {
	all := Program{}
	var names []string
	for _, n := range list {
		names = append(names, n.Name)
		all.Needs = append(all.Needs, n.Needs...)
	}
	all.Name = strings.Join(names, " and ")
	all.Start = func(t testing.TB) {
		t.Helper()
		for _, n := range list {
			n.Start(t)
		}
	}
	all.Reload = func(t testing.TB) {
		t.Helper()
		for _, n := range list {
			n.Reload(t)
		}
	}
	all.Works = func(t testing.TB) error {
		var errs []error
		for _, n := range list {
			errs = append(errs, n.Works(t))
		}
		return errors.Join(errs...)
	}
	all.State = func(t testing.TB) string {
		var b strings.Builder
		for _, n := range list {
			b.WriteString(n.State(t))
		}
		return b.String()
	}
	all.Version = func() string {
		var versions []string
		for _, n := range list {
			versions = append(versions, n.Version())
		}
		return strings.Join(versions, ", ")
	}
	all.Refuses = func(m profiles.Mode) string {
		for _, n := range list {
			if text := n.Refuses(m); text != "" {
				return text
			}
		}
		return ""
	}
	return all
}
