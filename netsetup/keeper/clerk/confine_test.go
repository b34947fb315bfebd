package clerk

import (
	"fmt"
	"net"
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

// tell prints the names of the deeds that a confined clerk can do.
func tell() {
	unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	if err := giveUp(); err != nil {
		fmt.Println(err)
		return
	}
	socket := func(family, kind int) error {
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	parent := os.Getppid()
	for name, deed := range map[string]func() error{
		"ask-4":     func() error { return socket(unix.AF_INET, unix.SOCK_DGRAM) },
		"ask-6-tcp": func() error { return socket(unix.AF_INET6, unix.SOCK_STREAM) },
		"dial":      func() error { _, err := net.Dial("udp", "127.0.0.1:53"); return err },
		"raw":       func() error { return socket(unix.AF_INET, unix.SOCK_RAW) },
		"packet":    func() error { return socket(unix.AF_PACKET, unix.SOCK_RAW) },
		"unix":      func() error { return socket(unix.AF_UNIX, unix.SOCK_STREAM) },
		"netlink":   func() error { return socket(unix.AF_NETLINK, unix.SOCK_RAW) },
		"vsock":     func() error { return socket(unix.AF_VSOCK, unix.SOCK_STREAM) },
		"listen":    func() error { _, err := net.Listen("tcp", "127.0.0.1:0"); return err },
		"exec":      func() error { return exec.Command("/bin/true").Run() },
		"signal":    func() error { return unix.Kill(parent, 0) },
		"thread":    func() error { return unix.Tgkill(parent, parent, 0) },
		"group":     func() error { return unix.Kill(-1, 0) },
		"ptrace":    func() error { return unix.PtraceAttach(parent) },
		"limit": func() error {
			return unix.Prlimit(parent, unix.RLIMIT_NOFILE, nil, &unix.Rlimit{})
		},
		"namespace": func() error { return unix.Unshare(unix.CLONE_NEWUSER) },
		"bpf":       func() error { _, _, e := unix.Syscall(unix.SYS_BPF, 0, 0, 0); return zero(e) },
		"self":      func() error { return unix.Kill(os.Getpid(), 0) },
	} {
		if deed() == nil {
			fmt.Println(name)
		}
	}
}

func zero(e unix.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

// A clerk that was taken over makes UDP and TCP connections, and nothing else.
func TestTakenOverClerk(t *testing.T) {
	out, err := exec.Command("/proc/self/exe", "tell").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	can := map[string]bool{}
	for _, name := range strings.Fields(string(out)) {
		can[name] = true
	}
	want := map[string]bool{"ask-4": true, "ask-6-tcp": true, "dial": true, "self": true}
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
