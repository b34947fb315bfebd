package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
)

// who has a guest's web server tell its client's address.
const who = `mkdir -p /www/cgi-bin; printf '#!/bin/sh\necho "Content-Type: text/plain"\necho\necho "saw $REMOTE_ADDR"\n' > /www/cgi-bin/who; chmod +x /www/cgi-bin/who; (httpd -p 80 -h /www || true)`

// saw asks who who is at an address of the host, and returns what the guest's server saw.
func (l *testHost) saw(address string) string {
	l.Helper()
	c, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		l.Errorf("%s: %v", address, err)
		return ""
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprint(c, "GET /cgi-bin/who HTTP/1.0\r\n\r\n")
	all, err := io.ReadAll(c)
	if _, from, ok := strings.Cut(string(all), "saw "); ok && err == nil {
		return strings.TrimSpace(from)
	}
	l.Errorf("%s: got %q, %v", address, all, err)
	return ""
}

// forwardRow is a row of `qnet forward ls --json`.
type forwardRow struct {
	VM, Proto, Address, How string
	NIC                     int
	Port, Guest             uint16
	Carried                 *struct{ Connections, Total, In, Out uint64 }
}

func (l *testHost) forwardsOf(name string) (rows []forwardRow) {
	l.Helper()
	if err := json.Unmarshal([]byte(l.must("forward", "ls", "--json", name)), &rows); err != nil {
		l.Fatal(err)
	}
	return rows
}

// noAnswer wants a port to be closed: at once, or by a reset of what was accepted.
func (l *testHost) noAnswer(address string) {
	l.Helper()
	c, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err == nil {
		c.SetDeadline(time.Now().Add(10 * time.Second))
		_, err = io.Copy(io.Discard, c)
		c.Close()
	}
	if !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ECONNRESET) {
		l.Errorf("%s: got %v, want a closed port", address, err)
	}
}

// A user without rights forwards ports to a guest of mode user: QEMU does, and a relay what QEMU
// cannot.
func TestForwardsInModeUser(t *testing.T) {
	inLab(t, func(l *testHost) {
		lab.Sh(t, "install -d -o 65534 "+l.dir+"/nobody; ln -s nobody/state "+l.dir+"/state")
		l.env = append(l.env, "QNET_RUN_DIR="+l.dir+"/nobody/run", "QNET_STATE_DIR="+l.dir+"/nobody/state")
		ports := `ports = ["2080:80", "*:2081:80", "192.0.2.10:2082:80", "2083:81", "*:2084:9/udp"]`
		path := l.profile("u", vm(l, "u", "qnet.net0=dhcp qnet.shell")+"[[nic]]\nmode = \"user\"\n"+ports+"\n")
		as := func(args ...string) (code int, out string) {
			p := l.command(args...)
			p.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			p.begin()
			code = p.end(60 * time.Second)
			return code, p.out.String() + p.errout.String()
		}
		if code, said := as("run", "-d", path); code != 0 {
			t.Fatalf("exit code %d: %s", code, said)
		}
		for _, r := range l.forwardsOf("u") {
			want := "hostfwd"
			if r.Address == "::1" || r.Address == "*" {
				want = "relay"
			}
			if r.How != want {
				t.Errorf("%s:%d: by %s, want %s", r.Address, r.Port, r.How, want)
			}
		}
		c := l.shell("u")
		c.must(who)
		for address, want := range map[string]string{
			"127.0.0.1:2080": "10.0.2.2", "[::1]:2080": "10.0.2.2", "127.0.0.1:2081": "10.0.2.2", "[::1]:2081": "10.0.2.2", "192.0.2.10:2081": "10.0.2.2",
			"192.0.2.10:2082": "192.0.2.10", // QEMU changes the source of what comes from 127.0.0.1 only
		} {
			if got := l.saw(address); !strings.Contains(got, want) {
				t.Errorf("%s: the guest saw %q, want %s", address, got, want)
			}
		}
		for _, address := range []string{"127.0.0.1:2083", "[::1]:2083"} { // nothing listens in the guest: QEMU ends what it accepted
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(10 * time.Second))
			if all, err := io.ReadAll(c); len(all) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: got %q, %v", address, all, err)
			}
			c.Close()
		}
		l.datagramsArrive(c, "127.0.0.1:2084", "[::1]:2084", "192.0.2.10:2084")
		l.forwardsLiveInModeUser(as)
		l.must("stop", "--force", "u")
		l.noAnswer("127.0.0.1:2081")
	})
}

// datagramsArrive sends the guest a packet by each address. No program of it listens: it counts them.
func (l *testHost) datagramsArrive(c *console, addresses ...string) {
	l.Helper()
	noPorts := func() string {
		return c.must(`grep '^Udp: [0-9]' /proc/net/snmp`)
	}
	before := noPorts()
	for _, address := range addresses {
		conn, err := net.Dial("udp", address)
		if err != nil {
			l.Fatal(err)
		}
		defer conn.Close()
		conn.Write([]byte("x"))
	}
	lab.Eventually(l, 10*time.Second, "the guest gets packets of UDP", func() bool {
		var was, is [4]int
		for i, text := range []string{before, noPorts()} {
			n := &was
			if i == 1 {
				n = &is
			}
			fmt.Sscanf(text, "Udp: %d %d %d", &n[0], &n[1], &n[2])
		}
		return is[1] >= was[1]+len(addresses)
	})
}

// forwardsLiveInModeUser adds and removes forwards of the VM u, and tries what is refused.
func (l *testHost) forwardsLiveInModeUser(as func(args ...string) (code int, out string)) {
	l.Helper()
	for _, ports := range []string{"3080:80", "*:3081:80"} {
		if code, said := as("forward", "add", "u", ports); code != 0 {
			l.Errorf("%s: %s", ports, said)
		}
	}
	l.saw("127.0.0.1:3080")
	l.saw("[::1]:3080")
	l.saw("192.0.2.10:3081")
	for _, c := range []struct{ ports, want string }{
		{"2080:81", "forwards 127.0.0.1:2080:80 already"},
		{"80:80", "root's"},
		{"203.0.113.9:3082:80", "the host has no address 203.0.113.9"},
	} {
		if code, said := as("forward", "add", "u", c.ports); code != exitFailure && code != exitIncapable || !strings.Contains(said, c.want) {
			l.Errorf("%s: exit code %d: %s", c.ports, code, said)
		}
	}
	l.must("forward", "rm", "u", "3080:80", "*:3081:80", "2080:80")
	for _, address := range []string{"127.0.0.1:3080", "[::1]:3080", "192.0.2.10:3081", "127.0.0.1:2080"} {
		l.noAnswer(address)
	}
	l.saw("127.0.0.1:2081")
}

// lineOf is the line of a file, from 1, that begins with a word.
func lineOf(t *testing.T, path, word string) int {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return 1 + slices.IndexFunc(strings.Split(string(b), "\n"), func(line string) bool { return strings.HasPrefix(line, word) })
}

// A taken port is refused before anything starts, and its process or VM is named.
func TestTakenPortsAreRefused(t *testing.T) {
	inLab(t, func(l *testHost) {
		other, err := net.Listen("tcp", "127.0.0.1:2080")
		if err != nil {
			t.Fatal(err)
		}
		for _, mode := range []string{"user", "host-only"} {
			nic := "[[nic]]\nmode = \"" + mode + "\"\n"
			path := l.profile("a", idle+nic+"ports = [\"2081:80\", \"*:2080:80\"]\n")
			l.refused(exitIncapable, []string{path + ":" + strconv.Itoa(lineOf(t, path, "ports")) + ": nic[0].ports[1]: ", "*:2080:80", "tcp port 2080 is taken", "pid " + strconv.Itoa(os.Getpid())}, "run", "-d", path)
			l.noAnswer("127.0.0.1:2081") // all or none
		}
		other.Close()
		l.must("run", "-d", l.profile("a", idle+"[[nic]]\nmode = \"host-only\"\nports = [\"2080:80\"]\n"))
		l.refused(exitIncapable, []string{"127.0.0.1:2080:80", "taken", `VM "a"`}, "run", "-d", l.profile("b", idle+"[[nic]]\nmode = \"nat\"\nports = [\"2080:80\"]\n"))
		l.must("stop", "--force", "a")
	})
}

// Ports lead to the guest's own addresses: the lease of nat, and in mode bridge the one that the
// guest shows. A port on which nothing listens is closed, also while the guest has no address.
func TestForwardsToGuest(t *testing.T) {
	inLab(t, func(l *testHost) {
		lab.FreeNIC(l, l.dir)
		lab.Sh(t, `
ip link add br0 type bridge
ip link set br0 addrgenmode none
ip link set lan0 master br0 up
ip addr add 198.51.100.2/24 dev br0
ip link set br0 up`)
		lab.Eventually(t, 10*time.Second, "the bridge forwards", func() bool {
			return strings.Contains(lab.Sh(t, "bridge link show dev lan0; ip link show br0"), "state forwarding")
		})
		l.prepared()
		text := vm(l, "g", "qnet.net0=dhcp qnet.net1=dhcp qnet.shell") +
			"[[nic]]\nmode = \"nat\"\nnetwork = \"dev\"\nports = [\"2080:80\", \"2083:81\"]\n" +
			"[[nic]]\nmode = \"bridge\"\nports = [\"3080:80\", \"3083:81\"]\n[network.bridge]\nuplink = \"br0\"\n"
		l.must("run", "-d", l.profile("g", text))
		for _, address := range []string{"127.0.0.1:2080", "127.0.0.1:3080"} { // it boots
			begun := time.Now()
			l.noAnswer(address)
			if took := time.Since(begun); took > 3*time.Second {
				t.Errorf("%s: closed after %s", address, took)
			}
		}
		c := l.shell("g")
		c.must(who)
		gateway := strings.TrimSpace(c.must("ip route | sed -n 's/^default via \\([0-9.]*\\).*/\\1/p' | grep -v 198.51 | head -1"))
		for _, address := range []string{"127.0.0.1:2080", "[::1]:2080"} {
			if got := l.saw(address); !strings.Contains(got, gateway) {
				t.Errorf("%s: the guest saw %q, want %s", address, got, gateway)
			}
		}
		lab.Eventually(t, 20*time.Second, "an address by the LAN", func() bool { return len(l.state("g").NICs[1].Addresses()) > 0 })
		for _, address := range []string{"127.0.0.1:3080", "[::1]:3080"} {
			if got := l.saw(address); !strings.Contains(got, "198.51.100.2") {
				t.Errorf("%s: the guest saw %q", address, got)
			}
		}
		for _, address := range []string{"127.0.0.1:2083", "[::1]:2083", "127.0.0.1:3083"} {
			l.noAnswer(address)
		}
		if ps := l.must("ps"); !strings.Contains(ps, " PORTS") || !strings.Contains(ps, "[::1]:2080:80") || !strings.Contains(ps, "1 more") {
			t.Errorf("got\n%s", ps)
		}
		rows := l.forwardsOf("g")
		if len(rows) != 8 || rows[0].Carried == nil || rows[0].Carried.Total < 2 || rows[0].Carried.Out == 0 || rows[0].Carried.Connections != 0 {
			t.Errorf("got %+v", rows)
		}
		l.must("forward", "add", "--nic", "1", "g", "3090:80")
		l.saw("127.0.0.1:3090")
		l.refused(exitFailure, []string{"lead to NICs in the modes"}, "forward", "add", "--nic", "2", "g", "3091:80")
		l.refused(exitFailure, []string{"the VM has none such", "qnet forward ls g"}, "forward", "rm", "g", "3092:80")
		l.refused(exitUsage, []string{`got "3092"`, "such as 2222:22"}, "forward", "add", "g", "3092")
		l.must("forward", "rm", "g", "3090:80")
		l.noAnswer("127.0.0.1:3090")
		l.must("stop", "--force", "g")
		l.noAnswer("127.0.0.1:2080")
	})
}

// Behind sudo, the relay runs with the user's rights, and has ports that only root may bind.
func TestForwardsBehindSudo(t *testing.T) {
	inLab(t, func(l *testHost) {
		l.env = append(l.env, "SUDO_UID=54321", "SUDO_GID=54321")
		l.must("run", "-d", l.profile("s", idle+"[[nic]]\nmode = \"nat\"\nports = [\"*:80:80\"]\n[[nic]]\nmode = \"user\"\nports = [\"81:80\", \"*:82:80/udp\"]\n"))
		pid := l.state("s").PID
		status := lab.Sh(t, "cat /proc/"+itoa(pid)+"/status")
		if !strings.Contains(status, "Uid:\t54321\t54321\t0") && !strings.Contains(status, "Uid:\t0\t54321\t0") {
			t.Errorf("the supervisor is\n%s", status)
		}
		sockets := lab.Sh(t, "ss -Hlntup")
		for _, port := range []string{"*:80 ", "127.0.0.1:81 ", "[::1]:81 ", "*:82 "} {
			if !strings.Contains(sockets, port) {
				t.Errorf("nobody listens at %s:\n%s", port, sockets)
			}
		}
		for _, r := range l.forwardsOf("s") {
			if r.How == "hostfwd" {
				t.Errorf("QEMU has no rights for port %d", r.Port)
			}
		}
		l.must("forward", "add", "s", "*:83:80")
		l.must("forward", "rm", "s", "*:83:80", "81:80", "*:82:80/udp")
		if sockets := lab.Sh(t, "ss -Hlntup"); strings.Contains(sockets, ":81 ") || strings.Contains(sockets, ":82 ") || strings.Contains(sockets, ":83 ") {
			t.Errorf("somebody listens still:\n%s", sockets)
		}
		l.must("stop", "--force", "s")
	})
}
