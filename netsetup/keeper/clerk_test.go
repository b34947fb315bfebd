package keeper_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/confine"
	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/netsetup/dhcp"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
)

// processes lists the processes in this network namespace whose last argument is the word.
func processes(t *testing.T, word string) []int {
	t.Helper()
	here, _ := os.Readlink("/proc/self/ns/net")
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var pids []int
	for _, dir := range dirs {
		ns, _ := os.Readlink(dir + "/ns/net")
		cmdline, _ := os.ReadFile(dir + "/cmdline")
		if ns == here && strings.HasSuffix(string(cmdline), "\x00"+word+"\x00") {
			pid, err := strconv.Atoi(filepath.Base(dir))
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// clerkOf waits for the clerk of the only network, another one than those before.
func clerkOf(t *testing.T, before ...int) int {
	t.Helper()
	pid := 0
	lab.Eventually(t, 10*time.Second, "a clerk that serves", func() bool {
		for _, p := range processes(t, "--clerk") {
			if status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p)); !slices.Contains(before, p) && strings.Contains(string(status), "Seccomp:\t2") {
				pid = p
			}
		}
		return pid != 0
	})
	return pid
}

// Promise P15: what serves DHCP and DNS has no right but its sockets, and cannot gain any.
func TestClerkHasNoRights(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
		defer mustLeave(t, r)
		for kind, pid := range map[string]int{"clerk": clerkOf(t), "steward": processes(t, "--steward")[0]} {
			proc := fmt.Sprintf("/proc/%d/", pid)
			tasks, _ := filepath.Glob(proc + "task/*/status")
			for _, path := range tasks {
				rightless(t, kind, path)
			}
			if environ, err := os.ReadFile(proc + "environ"); err != nil || len(environ) != 0 {
				t.Errorf("%s: environment %q, %v", kind, environ, err)
			}
			if cwd, _ := os.Readlink(proc + "cwd"); cwd != "/" {
				t.Errorf("%s: working directory %s", kind, cwd)
			}
			fds, _ := filepath.Glob(proc + "fd/*")
			for _, fd := range fds {
				if to, _ := os.Readlink(fd); to != os.DevNull && !strings.HasPrefix(to, "socket:") && !strings.HasPrefix(to, "anon_inode:") && !strings.HasPrefix(to, "pipe:") {
					t.Errorf("%s: has %s open", kind, to)
				}
			}
		}
		t.Logf("| PSS of the clerk %d KiB, of the steward %d KiB, of the keeper %d KiB |",
			lab.PSS(t, clerkOf(t)), lab.PSS(t, processes(t, "--steward")[0]), lab.PSS(t, r.Info().KeeperPID))
		limits := lab.Sh(t, fmt.Sprintf("cat /proc/%d/limits", clerkOf(t)))
		for _, want := range []string{"Max core file size        0                    0", "Max file size             0                    0"} {
			if !strings.Contains(limits, want) {
				t.Errorf("no %q in\n%s", want, limits)
			}
		}
	})
}

// dialAll prints the addresses that the process can connect to.
func dialAll(addresses []string) {
	for _, a := range addresses {
		if c, err := net.DialTimeout("tcp", a, time.Second); err == nil {
			fmt.Println(a)
			c.Close()
		}
	}
}

// A program in the clerk's place connects over TCP to name servers' port only.
func TestClerkReachesNameServersOnly(t *testing.T) {
	lab.Require(t, lab.Root, lab.Need{Name: "Landlock of version 4", OK: func() bool { return confine.Landlock() >= 4 }})
	lab.Run(t, func(t *testing.T) {
		var all []string
		for _, port := range []string{"53", "8080"} {
			for _, host := range []string{"127.0.0.1", "::1"} {
				l, err := net.Listen("tcp", net.JoinHostPort(host, port))
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				all = append(all, l.Addr().String())
			}
		}
		program, err := os.Open("/proc/self/exe")
		if err != nil {
			t.Fatal(err)
		}
		defer program.Close()
		reached := func(start func(*exec.Cmd) error) string {
			var out strings.Builder
			cmd := exec.Command("/proc/self/exe", append([]string{"dial"}, all...)...)
			cmd.Stdout, cmd.SysProcAttr = &out, &syscall.SysProcAttr{}
			if err := errors.Join(start(cmd), cmd.Wait()); err != nil {
				t.Fatal(err)
			}
			return out.String()
		}
		if got := reached((*exec.Cmd).Start); got != strings.Join(all, "\n")+"\n" {
			t.Fatalf("without confinement it reaches %q", got)
		}
		got := reached(func(cmd *exec.Cmd) error { return keeper.StartConfined(cmd, program) })
		if got != all[0]+"\n"+all[1]+"\n" {
			t.Errorf("it reaches %q", got)
		}
	})
}

// rightless checks a thread of a clerk or a steward.
func rightless(t *testing.T, kind, path string) {
	t.Helper()
	status := lab.Sh(t, "cat "+path)
	want := []string{"CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1"}
	if kind == "clerk" {
		want = append(want, "Seccomp:\t2")
	}
	if os.Geteuid() == 0 {
		want = append(want, "Groups:\t \n")
	}
	for _, w := range want {
		if !strings.Contains(status, w) {
			t.Errorf("%s: no %q in\n%s", kind, w, status)
		}
	}
	for line := range strings.Lines(status) {
		if (strings.HasPrefix(line, "Uid:") || strings.HasPrefix(line, "Gid:")) && os.Geteuid() == 0 && slices.Contains(strings.Fields(line), "0") {
			t.Errorf("%s: %s", kind, line)
		}
	}
}

// A steward, and so its clerk, opens no file but programs and libraries.
func TestClerkOpensNoFile(t *testing.T) {
	if confine.Landlock() == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs Landlock")
		}
		t.Skip("needs Landlock")
	}
	dir := lab.Dir(t)
	lab.Sh(t, "chmod 0777 "+dir+"; echo secret > "+dir+"/file; chmod 0666 "+dir+"/file")
	shell, err := os.Open("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	defer shell.Close()
	for _, script := range []string{
		"echo works > /dev/null", "read x < " + dir + "/file", "read x < /etc/passwd", "read x < /etc/resolv.conf", "read x < /proc/self/status",
		"echo x > " + dir + "/file", "echo x > " + dir + "/new", "for f in " + dir + "/*; do [ -e $f ] && read x < $f; done; [ -e " + dir + "/file ] && read x < " + dir + "/file",
	} {
		cmd := exec.Command("/bin/sh", "-c", script)
		cmd.SysProcAttr = &syscall.SysProcAttr{}
		err := keeper.StartConfined(cmd, shell)
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); (err == nil) != (script == "echo works > /dev/null") {
			t.Errorf("%s: %v", script, err)
		}
	}
}

// Where a steward keeps its user, because the namespace has no other one or the caller is not
// root, it has no capability either.
func TestClerkWithoutAnotherUser(t *testing.T) {
	program, err := os.Open("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	cmd := exec.Command("/bin/sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if err := keeper.StartConfined(cmd, program); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	status := lab.Sh(t, fmt.Sprintf("cat /proc/%d/status", cmd.Process.Pid))
	for _, want := range []string{"CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !strings.Contains(status, want) {
			t.Errorf("no %q in\n%s", want, status)
		}
	}
}

// Whichever process of them is killed, and the keeper with or before them, names and leases
// are served again, and nothing is left at the end.
func TestClerkIsReplaced(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
		natGuest(t)
		c := frames(t, "guest", "eth0")
		mac := r.Ports()[0].MAC
		serves := func(after string) {
			t.Helper()
			lab.Eventually(t, 10*time.Second, "an answer after "+after, func() bool {
				return resolves(t, "guest", "udp4", "", "10.77.0.1", "web.qnet.", time.Second)
			})
			if a := renewed(t, c, mac); a != r.Ports()[0].Address.String() {
				t.Errorf("after %s the guest gets %s, want %s", after, a, r.Ports()[0].Address)
			}
		}
		serves("the start")
		for i := range 20 {
			old := clerkOf(t)
			unix.Kill(old, unix.SIGKILL)
			if a := renewed(t, c, mac); a != r.Ports()[0].Address.String() { // while the next one starts
				t.Fatalf("death %d: the guest gets %q", i, a)
			}
			if i%7 == 0 {
				clerkOf(t, old)
			}
		}
		serves("20 deaths")
		if got := takenBy(t, o, mac); !got {
			t.Error("the lease does not show as taken")
		}
		for _, kind := range []string{"--steward", "keeper", "keeper and steward"} {
			was, clerk := infoOf(t, o).KeeperPID, clerkOf(t)
			steward := processes(t, "--steward")[0]
			if kind != "keeper" {
				unix.Kill(steward, unix.SIGKILL)
			}
			if kind != "--steward" {
				unix.Kill(was, unix.SIGKILL)
			}
			lab.Eventually(t, 5*time.Second, "the end of the clerk of the dead "+kind, func() bool { return unix.Kill(clerk, 0) != nil && unix.Kill(steward, 0) != nil })
			lab.Eventually(t, 10*time.Second, "the next keeper", func() bool { i, ok := tryInfo(t, o); return ok && i.KeeperPID != was })
			serves("the death of the " + kind)
		}
		lab.Sh(t, "ip link del vguest; ip netns del guest")
		mustLeave(t, r)
		if left := append(processes(t, "--clerk"), processes(t, "--steward")...); len(left) > 0 {
			lab.Eventually(t, 2*time.Second, "the end of all", func() bool { return len(processes(t, "--clerk"))+len(processes(t, "--steward")) == 0 })
		}
	})
}

func tryInfo(t *testing.T, o Options) (Info, bool) {
	t.Helper()
	infos, err := List(t.Context(), o.RunDir)
	if err != nil || len(infos) != 1 || len(infos[0].VMs) != 1 {
		return Info{}, false
	}
	return infos[0], true
}

func infoOf(t *testing.T, o Options) (i Info) {
	t.Helper()
	lab.Eventually(t, 10*time.Second, "the keeper answers", func() (ok bool) {
		i, ok = tryInfo(t, o)
		return ok
	})
	return i
}

// takenBy reports whether the lease of a NIC shows as taken.
func takenBy(t *testing.T, o Options, mac net.HardwareAddr) bool {
	t.Helper()
	return slices.ContainsFunc(infoOf(t, o).Leases, func(l dhcp.Lease) bool { return l.MAC == mac.String() && l.VM && l.Bound })
}

// renewed has a client take its lease, and returns its address.
func renewed(t *testing.T, c *packet.Conn, mac net.HardwareAddr) string {
	t.Helper()
	address := ""
	lab.Eventually(t, 10*time.Second, "an offer for the guest", func() bool {
		if err := c.Write(discover(t, mac, mac)); err != nil {
			t.Fatal(err)
		}
		offer := dhcpMessage(t, c, mac, dhcpv4.MessageTypeOffer)
		if offer == nil {
			return false
		}
		request, err := dhcpv4.NewRequestFromOffer(offer, dhcpv4.WithBroadcast(true))
		if err != nil {
			t.Fatal(err)
		}
		d, _ := packet.ParseDatagram(discover(t, mac, mac))
		d.Payload = request.ToBytes()
		if err := c.Write(d.Frame()); err != nil {
			t.Fatal(err)
		}
		ack := dhcpMessage(t, c, mac, dhcpv4.MessageTypeAck)
		if ack != nil {
			address = ack.YourIPAddr.String()
		}
		return ack != nil
	})
	return address
}

// dhcpMessage is the next message of a kind for a client, nil if none comes within a second.
func dhcpMessage(t *testing.T, c *packet.Conn, mac net.HardwareAddr, kind dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 2048); ; {
		n, _, err := c.Read(b)
		if err != nil {
			return nil
		}
		d, ok := packet.ParseDatagram(b[:n])
		if !ok {
			continue
		}
		if m, err := dhcpv4.FromBytes(d.Payload); err == nil && m.MessageType() == kind && slices.Equal(m.ClientHWAddr, mac) {
			return m
		}
	}
}

// A VM's name and lease are there as soon as it has joined, and gone when it has left.
func TestClerkFollowsAtOnce(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		n := Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}
		r := mustJoin(t, o, n, "web", port(1))
		natGuest(t)
		c := frames(t, "guest", "eth0")
		for i := range byte(10) {
			db := mustJoin(t, o, n, "db", port(10+i))
			if a := renewed(t, c, db.Ports()[0].MAC); a != db.Ports()[0].Address.String() {
				t.Errorf("round %d: got %s, want %s", i, a, db.Ports()[0].Address)
			}
			mustLeave(t, db)
		}
		lab.Sh(t, "ip link del vguest; ip netns del guest")
		mustLeave(t, r)
	})
}

// The clerk works where only the binary's owner may execute it.
func TestClerkOfPrivateBinary(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		private := filepath.Join(filepath.Dir(o.RunDir), "qnet")
		lab.Sh(t, "cp $(readlink /proc/"+strconv.Itoa(os.Getpid())+"/exe) "+private+"; chmod 0700 "+private)
		o.Exe = []string{private, "keeper"}
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
		natGuest(t)
		lab.Eventually(t, 10*time.Second, "an answer", func() bool { return resolves(t, "guest", "udp4", "", "10.77.0.1", "web.qnet.", time.Second) })
		lab.Sh(t, "ip link del vguest; ip netns del guest")
		mustLeave(t, r)
	})
}

// A steward that is held back starts when the VM runs, for another VM's guest soon anyway, and
// before the VM leaves. What guests ask before waits for the clerk.
func TestStewardIsHeldBack(t *testing.T) {
	for _, c := range []struct {
		how   string
		start func(t *testing.T, s *Stewards)
	}{
		{"the VM runs", func(t *testing.T, s *Stewards) {
			if err := s.Start(); err != nil {
				t.Error(err)
			}
		}},
		{"it takes long", func(*testing.T, *Stewards) { time.Sleep(time.Second) }},
	} {
		t.Run(c.how, func(t *testing.T) {
			inLab(t, func(t *testing.T, o Options) {
				o.Stewards = &Stewards{}
				r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
				natGuest(t)
				mac, f := r.Ports()[0].MAC, frames(t, "guest", "eth0")
				if err := f.Write(discover(t, mac, mac)); err != nil {
					t.Fatal(err)
				}
				if list := processes(t, "--steward"); len(list) > 0 {
					t.Fatalf("a steward runs before its start: %v", list)
				}
				c.start(t, o.Stewards)
				if dhcpMessage(t, f, mac, dhcpv4.MessageTypeOffer) == nil {
					t.Error("the guest's question from before is not answered")
				}
				kill(t, r.Info().KeeperPID)
				if a := renewed(t, f, mac); a != r.Ports()[0].Address.String() {
					t.Errorf("under the next keeper the guest gets %s", a)
				}
				lab.Sh(t, "ip link del vguest; ip netns del guest")
				if err := o.Stewards.Start(); err != nil {
					t.Error(err)
				}
				mustLeave(t, r)
			})
		})
	}
}

// A start that waits for the rights that a join has, which holds a steward back meanwhile, does not
// keep it from that.
func TestStewardsStartWhileAnotherIsHeldBack(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		var rights sync.Mutex
		var started sync.WaitGroup
		o.Stewards = &Stewards{}
		o.AsRoot = func(f func() error) error {
			rights.Lock()
			defer rights.Unlock()
			return f()
		}
		one := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
		o.AsRoot = func(f func() error) error {
			rights.Lock()
			defer rights.Unlock()
			started.Go(func() {
				if err := o.Stewards.Start(); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(100 * time.Millisecond) // until it waits for the rights
			return f()
		}
		second := port(2)
		second[0].NIC = 1
		two := mustJoin(t, o, Network{Name: "other", Mode: profiles.HostOnly}, "web", second)
		started.Wait()
		mustLeave(t, two)
		mustLeave(t, one)
	})
}

// A steward that does not start is said by Start, and the keeper lets go of the network.
func TestHeldBackStewardFails(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		binary := filepath.Join(filepath.Dir(o.RunDir), "qnet")
		lab.Sh(t, "cp $(readlink /proc/"+strconv.Itoa(os.Getpid())+"/exe) "+binary)
		o.Exe, o.Stewards = []string{binary, "keeper"}, &Stewards{}
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
		lab.Sh(t, "rm "+binary)
		if err := o.Stewards.Start(); err == nil || !strings.Contains(err.Error(), "start its steward") {
			t.Errorf("got %v", err)
		}
		if err := r.Leave(t.Context()); err != nil {
			t.Log(err) // the keeper may have gone before
		}
		lab.Eventually(t, 10*time.Second, "the network's end", func() bool { return !exists("/sys/class/net/qn-dev") })
	})
}
