package managers

import (
	"context"
	"encoding/hex"
	"errors"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lab/programs"
)

// dhcpNetwork has networkd ask for a lease on eth0.
const dhcpNetwork = "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\n"

// starters run each program that gets eth0 a lease, and return the address.
var starters = map[Program]struct {
	needs []lab.Need
	start func(t *testing.T) string
}{
	Udhcpc:   {programs.DHCPClientNeeds("udhcpc"), func(t *testing.T) string { return client(t, "udhcpc") }},
	Dhclient: {programs.DHCPClientNeeds("dhclient"), func(t *testing.T) string { return client(t, "dhclient") }},
	Dhcpcd:   {programs.DHCPClientNeeds("dhcpcd"), func(t *testing.T) string { return client(t, "dhcpcd") }},
	Networkd: {programs.NetworkdNeeds, func(t *testing.T) string {
		programs.Networkd(t, map[string]string{"50-lan.network": dhcpNetwork}, true)
		return programs.Leased(t)
	}},
	NetworkManager: {programs.NetworkManagerNeeds(), func(t *testing.T) string {
		programs.NetworkManager(t, "")
		return programs.Leased(t)
	}},
}

func client(t *testing.T, name string) string {
	t.Helper()
	address, _ := programs.DHCPClient(t, name)
	return address
}

// Observe finds the program that has eth0's lease, and the name that the program gives
// itself: the server has the same one among its leases.
func TestObserve(t *testing.T) {
	for program, s := range starters {
		t.Run(string(program), func(t *testing.T) {
			lab.Require(t, append(s.needs, lab.Program("dnsmasq"))...)
			lab.Run(t, func(t *testing.T) {
				lan := lab.NewLAN(t, lab.LANOptions{DHCP: true})
				address := s.start(t)
				c, err := Observe(t.Context(), "eth0")
				if err != nil || c.Program != program || c.Refusal != "" {
					t.Fatalf("got %+v, %v", c, err)
				}
				if !c.GoesDeaf() {
					if program != Dhclient && program != Dhcpcd {
						t.Errorf("%s hears on a port", program)
					}
					return
				}
				if c.Lease.Address.String() != address {
					t.Errorf("lease of %s, want %s", c.Lease.Address, address)
				}
				leases := lab.Sh(t, "cat "+lan.LeaseFile())
				if id := colons(c.Lease.ClientID); !strings.Contains(leases, " "+id+"\n") || !strings.Contains(leases, c.Lease.MAC.String()) {
					t.Errorf("client identifier %s of %s, the server knows\n%s", id, c.Lease.MAC, leases)
				}
			})
		})
	}
}

// colons writes bytes as dnsmasq does: "01:52:54".
func colons(b []byte) string {
	var words []string
	for _, v := range b {
		words = append(words, hex.EncodeToString([]byte{v}))
	}
	return strings.Join(words, ":")
}

// An address with an end and no known client is a refusal. An address without an end is
// the administrator's.
func TestObserveUnknown(t *testing.T) {
	lab.Run(t, func(t *testing.T) {
		lab.Uplink(t)
		if c, err := Observe(t.Context(), "eth0"); err != nil || c.Program != "" || c.Refusal != "" {
			t.Errorf("static: got %+v, %v", c, err)
		}
		lab.Sh(t, "ip addr change 192.0.2.10/24 dev eth0 valid_lft 100 preferred_lft 100")
		if c, err := Observe(t.Context(), "eth0"); err != nil || !strings.Contains(c.Refusal, "192.0.2.10/24") || !strings.Contains(c.Refusal, "static") {
			t.Errorf("with an end: got %+v, %v", c, err)
		}
	})
}

// A client in another network namespace, such as a container's, does not configure this
// host's link of the same name.
func TestForeignProcesses(t *testing.T) {
	lab.Require(t, programs.DHCPClientNeeds("udhcpc")...)
	lab.Run(t, func(t *testing.T) {
		lab.Uplink(t)
		lab.Daemon(t, "unshare", "--net", "busybox", "udhcpc", "-f", "-i", "eth0", "-s", "/bin/true")
		lab.Daemon(t, "ip", "netns", "exec", "inet", "busybox", "udhcpc", "-f", "-i", "lan0", "-s", "/bin/true")
		l, err := readLink("eth0")
		if err != nil {
			t.Fatal(err)
		}
		if c, err := findClient(context.Background(), l); !errors.Is(err, errNone) {
			t.Errorf("got %+v, %v", c, err)
		}
		if pid := unix.Getpid(); !here("/proc/self") || here("/proc/1") && pid != 1 {
			t.Error("a process of the machine's namespace counts as here")
		}
	})
}

func TestCommandLines(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	l := link{name: "eth1", mac: mac}
	for line, want := range map[string]struct {
		program Program
		serves  bool
		id      string
		host    string
	}{
		"udhcpc -i eth1":                              {Udhcpc, true, "01020000000001", ""},
		"/sbin/udhcpc --interface=eth1 -C":            {Udhcpc, true, "", ""},
		"busybox udhcpc -ieth1 -x 0x3d:00abcd":        {Udhcpc, true, "00abcd", ""},
		"udhcpc -b -i eth1 -x hostname:web -p /run/p": {Udhcpc, true, "01020000000001", "web"},
		"udhcpc -x 0x0c:776562 -i eth1":               {Udhcpc, true, "01020000000001", "web"},
		"udhcpc":                                      {Udhcpc, false, "01020000000001", ""},
		"udhcpc -i eth0":                              {Udhcpc, false, "01020000000001", ""},
		"dhclient -4 -v -pf /run/p -lf /l eth1":       {Dhclient, true, "", ""},
		"dhclient lo":                                 {Dhclient, false, "", ""},
		"dhclient":                                    {Dhclient, true, "", ""},
		"dhcpcd: [manager] [ip4]":                     {Dhcpcd, false, "", ""},
		"vim udhcpc":                                  {"", false, "", ""},
	} {
		argv := strings.Split(line, " ")
		p := clientName(argv)
		if p != want.program || p != "" && serves(p, argv, l) != want.serves {
			t.Errorf("%q is %q and serves eth1: %v", line, p, p != "" && serves(p, argv, l))
		}
		if p != Udhcpc {
			continue
		}
		if id := hex.EncodeToString(udhcpcID(argv, l)); id != want.id || udhcpcHost(argv) != want.host {
			t.Errorf("%q: client identifier %s, host %q", line, id, udhcpcHost(argv))
		}
	}
}

func TestParseNetworkdLease(t *testing.T) {
	l, err := parseNetworkdLease("# This is private data. Do not parse.\nADDRESS=192.0.2.55\nT1=60\nSERVER_ADDRESS=192.0.2.1\nCLIENTID=ff01\n")
	if err != nil || l.Address.String() != "192.0.2.55" || l.Server.String() != "192.0.2.1" || hex.EncodeToString(l.ClientID) != "ff01" {
		t.Errorf("got %+v, %v", l, err)
	}
	for _, bad := range []string{"", "ADDRESS=x\n", "ADDRESS=192.0.2.1\nCLIENTID=f\n", "ADDRESS=192.0.2.1\nSERVER_ADDRESS=\n"} {
		if l, err := parseNetworkdLease(bad); err == nil {
			t.Errorf("%q: got %+v", bad, l)
		}
	}
}
