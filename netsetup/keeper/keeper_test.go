package keeper

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/profiles"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "keeper" {
		os.Exit(Main(os.Args[2:], os.Stdin, os.Stderr))
	}
	os.Exit(m.Run())
}

func testOptions(t *testing.T) Options {
	dir := t.TempDir()
	return Options{
		RunDir: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state"),
		Exe: []string{"/proc/self/exe", "keeper"}, Log: func(s string) { t.Log(s) },
	}
}

func mac(last byte) net.HardwareAddr { return net.HardwareAddr{0x52, 0x54, 0, 1, 2, last} }

func sh(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

func TestJoinAndLeave(t *testing.T) {
	o := testOptions(t)
	ctx := context.Background()
	sh(t, "ip link add eth0 type veth peer name p0; ip link set eth0 up; ip link set p0 up; ip addr add 192.0.2.10/24 dev eth0; ip route add default via 192.0.2.1; sleep 2")
	before := sh(t, "ip -j link; ip -j addr; ip route show table all; nft list ruleset; sysctl -a 2>/dev/null | grep -v random | grep ^net.ip")
	for _, mode := range []profiles.Mode{profiles.NAT, profiles.Private, profiles.HostOnly} {
		a, err := Join(ctx, o, Network{Name: "dev", Mode: mode}, "web", []PortRequest{{NIC: 0, MAC: mac(1)}})
		if err != nil {
			t.Fatal(err)
		}
		b, err := Join(ctx, o, Network{Name: "dev", Mode: mode}, "db", []PortRequest{{NIC: 0, MAC: mac(2)}})
		if err != nil {
			t.Fatal(err)
		}
		t.Log(sh(t, "ip -d link show qn-dev; ip addr show qn-dev; bridge link; nft list ruleset"))
		t.Logf("%+v %+v", b.Info(), b.Ports())
		_, err = Join(ctx, o, Network{Name: "dev", Mode: mode, Subnet: netip.MustParsePrefix("10.99.0.0/24")}, "x", []PortRequest{{NIC: 0, MAC: mac(3)}})
		if err == nil || !strings.Contains(err.Error(), "[db web]") {
			t.Errorf("got %v, want a refusal naming db and web", err)
		}
		if err := a.Leave(ctx); err != nil {
			t.Fatal(err)
		}
		sh(t, "ip link show qndb0; ! ip link show qnweb0")
		start := time.Now()
		if err := b.Leave(ctx); err != nil {
			t.Fatal(err)
		}
		t.Log("leave took", time.Since(start))
		after := sh(t, "ip -j link; ip -j addr; ip route show table all; nft list ruleset; sysctl -a 2>/dev/null | grep -v random | grep ^net.ip")
		if before != after {
			os.WriteFile("/tmp/before", []byte(before), 0o644)
			os.WriteFile("/tmp/after", []byte(after), 0o644)
			t.Error(sh(t, "diff /tmp/before /tmp/after || true"))
		}
	}
	if _, err := os.Stat(o.RunDir); !os.IsNotExist(err) {
		t.Error(sh(t, "find "+o.RunDir))
	}
}
