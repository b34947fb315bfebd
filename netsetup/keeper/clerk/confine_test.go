package clerk

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain makes the test binary a process that tells what a clerk can do.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "tell" {
		tell()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// loopback is the index of lo.
const loopback = 1

// tell prints the names of the deeds that no filter keeps a confined clerk from.
func tell() {
	unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	nobody := &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}}
	answers, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	answers6, err6 := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM, 0)
	frames, packetErr := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	lo := &unix.SockaddrLinklayer{Ifindex: loopback, Protocol: 0xb588} // an EtherType for experiments, 0x88b5
	if packetErr == nil {
		err = errors.Join(err, unix.Bind(frames, lo))
	}
	if err = errors.Join(err, err6, giveUp(answers, answers6)); err != nil {
		fmt.Println(err)
		return
	}
	udp, _ := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	tcp, _ := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	frame := append(make([]byte, 12), 0x88, 0xb5)
	socket := func(family, kind int) error { return socketOf(family, kind, 0) }
	parent := os.Getppid()
	deeds := map[string]func() error{
		"answer": func() error { return unix.Sendto(answers, nil, 0, nobody) },
		"answer-6": func() error {
			return unix.Sendto(answers6, nil, 0, &unix.SockaddrInet6{Port: 9, Addr: netip.IPv6Loopback().As16()})
		},
		"let-6-go":    func() error { return unix.Close(answers6) },
		"send-to":     func() error { return unix.Sendto(udp, nil, 0, nobody) },
		"send-to-far": func() error { return sendtoFar(udp) },
		"sendmsg":     func() error { return unix.Sendmsg(answers, nil, nil, nobody, 0) },
		"fast-open":   func() error { return unix.Sendto(tcp, nil, unix.MSG_FASTOPEN, nobody) },
		"bind":        func() error { return unix.Bind(udp, &unix.SockaddrInet4{}) },
		"replace":     func() error { return unix.Dup3(udp, answers, 0) },
		"let-go":      func() error { return unix.Close(answers) },
		"let-all-go":  func() error { return unix.CloseRange(uint(answers), uint(answers), 0) },
		"multipath":   func() error { return socketOf(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP) },
		"ping":        func() error { return socketOf(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP) },
		"ask-4":       func() error { return socket(unix.AF_INET, unix.SOCK_DGRAM) },
		"ask-6-tcp":   func() error { return socket(unix.AF_INET6, unix.SOCK_STREAM) },
		"dial":        func() error { _, err := net.Dial("udp", "127.0.0.1:53"); return err },
		"raw":         func() error { return socket(unix.AF_INET, unix.SOCK_RAW) },
		"packet":      func() error { return socket(unix.AF_PACKET, unix.SOCK_RAW) },
		"unix":        func() error { return socket(unix.AF_UNIX, unix.SOCK_STREAM) },
		"netlink":     func() error { return socket(unix.AF_NETLINK, unix.SOCK_RAW) },
		"vsock":       func() error { return socket(unix.AF_VSOCK, unix.SOCK_STREAM) },
		"listen":      func() error { _, err := net.Listen("tcp", "127.0.0.1:0"); return err },
		"exec":        func() error { return exec.Command("/bin/true").Run() },
		"signal":      func() error { return unix.Kill(parent, 0) },
		"thread":      func() error { return unix.Tgkill(parent, parent, 0) },
		"group":       func() error { return unix.Kill(-1, 0) },
		"ptrace":      func() error { return unix.PtraceAttach(parent) },
		"limit": func() error {
			return unix.Prlimit(parent, unix.RLIMIT_NOFILE, nil, &unix.Rlimit{})
		},
		"namespace": func() error { return unix.Unshare(unix.CLONE_NEWUSER) },
		"bpf":       func() error { _, _, e := unix.Syscall(unix.SYS_BPF, 0, 0, 0); return zero(e) },
		"self":      func() error { return unix.Kill(os.Getpid(), 0) },
	}
	if packetErr == nil {
		deeds["send-frame"] = func() error { _, err := unix.Write(frames, frame); return err }
		deeds["send-frame-by"] = func() error { return unix.Sendto(frames, frame, 0, lo) }
		deeds["move-frames"] = func() error { return unix.Bind(frames, lo) }
		deeds["see-all"] = func() error {
			return unix.SetsockoptPacketMreq(frames, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{Ifindex: loopback, Type: unix.PACKET_MR_PROMISC})
		}
	}
	for name, deed := range deeds {
		if !errors.Is(deed(), unix.EPERM) {
			fmt.Println(name)
		}
	}
}

// socketOf makes a socket for a moment.
func socketOf(family, kind, protocol int) error {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// sendtoFar sends to an address at which the lower half of the pointer is zero.
func sendtoFar(fd int) error {
	const at = 7 << 32
	to, _, errno := unix.Syscall6(unix.SYS_MMAP, at, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED, ^uintptr(0), 0)
	if errno != 0 || to != at {
		panic(errno)
	}
	_, _, errno = unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), 0, 0, 0, at, 16)
	return zero(errno)
}

func zero(e unix.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

// A clerk that was taken over makes UDP and TCP connections, answers guests by the sockets that
// it has, and does nothing else.
func TestTakenOverClerk(t *testing.T) {
	out, err := exec.Command("/proc/self/exe", "tell").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	can := map[string]bool{}
	for _, name := range strings.Fields(string(out)) {
		can[name] = true
	}
	want := map[string]bool{"answer": true, "answer-6": true, "ask-4": true, "ask-6-tcp": true, "dial": true, "self": true}
	if os.Geteuid() == 0 {
		want["send-frame"] = true
	}
	for name := range can {
		if !want[name] {
			t.Errorf("it can %s", name)
		}
	}
	for name := range want {
		if !can[name] {
			t.Errorf("it cannot %s, which it must: %s", name, out)
		}
	}
}
