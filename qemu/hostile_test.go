package qemu_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/confine"
	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/qemu"
	"github.com/qnet-vm/qnet/qemu/machine"
	"github.com/qnet-vm/qnet/qemu/sandbox"
)

// hostileName is the file name by which the test binary behaves as a QEMU that a guest has
// taken over.
const hostileName = "hostile-qemu"

// targets are what a taken-over QEMU goes for. It reads them from its kernel.
type targets struct {
	Foreign  string // a file of another user's that everybody may write
	Open     string // a directory in which everybody may make files
	Socket   string // path of a UNIX socket that everybody may connect to
	Abstract string // name of an abstract one
	TCP, UDP string // addresses of the host
	Victim   int    // pid of another process of QEMU's user
}

// tapFD is where the first NIC's tap is, behind QMP and console.
const tapFD = 5

// hostile tries everything and prints how each attempt ended.
func hostile(args []string) int {
	if slices.Contains(args, "-version") {
		return 0
	}
	var t targets
	kernel := args[slices.Index(args, "-kernel")+1]
	text, err := os.ReadFile(kernel)
	if err == nil {
		err = json.Unmarshal(text, &t)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot read kernel:", err)
		return 1
	}
	for _, list := range []map[string]func() error{attemptsOnFiles(t), attemptsOnSockets(t), attemptsOnTap(), attemptsOnOthers(t), needed()} {
		for name, attempt := range list {
			result := "done"
			if err := attempt(); err != nil {
				result = "denied: " + err.Error()
			}
			fmt.Fprintf(os.Stderr, "attempt %s: %s\n", name, result)
		}
	}
	return 7
}

func openFor(path string, flags int) func() error {
	return func() error {
		fd, err := unix.Open(path, flags, 0o600)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	}
}

func attemptsOnFiles(t targets) map[string]func() error {
	return map[string]func() error{
		"read /etc/passwd":              openFor("/etc/passwd", unix.O_RDONLY),
		"write another user's file":     openFor(t.Foreign, unix.O_WRONLY),
		"truncate another user's file":  func() error { return unix.Truncate(t.Foreign, 0) },
		"make a file":                   openFor(t.Open+"/new", unix.O_CREAT|unix.O_WRONLY),
		"make a directory":              func() error { return unix.Mkdir(t.Open+"/sub", 0o700) },
		"list a directory":              openFor(t.Open, unix.O_RDONLY|unix.O_DIRECTORY),
		"make a symbolic link":          func() error { return unix.Symlink("/etc", t.Open+"/link") },
		"run a shell":                   func() error { return exec.Command("/bin/sh", "-c", "true").Run() },
		"read what the host's init did": openFor("/proc/1/cmdline", unix.O_RDONLY),
	}
}

func attemptsOnSockets(t targets) map[string]func() error {
	dial := func(network, address string) func() error {
		return func() error {
			c, err := net.Dial(network, address)
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte("x"))
			return err
		}
	}
	listen := func(network, address string) func() error {
		return func() error {
			l, err := net.Listen(network, address)
			if err != nil {
				return err
			}
			return l.Close()
		}
	}
	return map[string]func() error{
		"connect to a UNIX socket":           dial("unix", t.Socket),
		"connect to an abstract UNIX socket": dial("unix", t.Abstract),
		"connect by TCP":                     dial("tcp", t.TCP),
		"send UDP":                           dial("udp", t.UDP),
		"listen at a UNIX socket":            listen("unix", t.Open+"/listener"),
		"listen at TCP":                      listen("tcp", "127.0.0.1:0"),
		"open a netlink socket": func() error {
			_, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
			return err
		},
	}
}

// tapIoctl makes a request of the tap with 40 bytes behind it.
func tapIoctl(request uintptr) error {
	var argument [40]byte
	copy(argument[:], "qntest0")
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, tapFD, request, uintptr(unsafe.Pointer(&argument)))
	if errno != 0 {
		return errno
	}
	return nil
}

// tapValue makes a request of the tap whose argument is a number.
func tapValue(request, value uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, tapFD, request, value); errno != 0 {
		return errno
	}
	return nil
}

func attemptsOnTap() map[string]func() error {
	const (
		getNamespace = 0x54e3 // TUNGETDEVNETNS
		socketSpace  = 0x894c // SIOCGSKNS
	)
	return map[string]func() error{
		"make the tap outlive its holders": func() error { return tapValue(unix.TUNSETPERSIST, 1) },
		"the same, with high bits set":     func() error { return tapValue(unix.TUNSETPERSIST|0xabcd<<32, 1) },
		"take the tap's ownership":         func() error { return tapValue(unix.TUNSETOWNER, uintptr(os.Getuid())) },
		"take the tap's group":             func() error { return tapValue(unix.TUNSETGROUP, uintptr(os.Getgid())) },
		"change the tap's link type":       func() error { return tapValue(unix.TUNSETLINK, 1) },
		"change the tap's carrier":         func() error { return tapIoctl(unix.TUNSETCARRIER) },
		"filter the tap's frames":          func() error { return tapIoctl(unix.TUNSETTXFILTER) },
		"change the tap's address": func() error {
			request := struct {
				name    [16]byte
				family  uint16
				address [14]byte
			}{family: unix.ARPHRD_ETHER, address: [14]byte{2, 0, 0, 0, 0, 9}}
			_, _, errno := unix.Syscall(unix.SYS_IOCTL, tapFD, unix.SIOCSIFHWADDR, uintptr(unsafe.Pointer(&request)))
			if errno != 0 {
				return errno
			}
			return nil
		},
		"get the tap's namespace":  func() error { return tapValue(getNamespace, 0) },
		"get a socket's namespace": func() error { return tapValue(socketSpace, 0) },
	}
}

func attemptsOnOthers(t targets) map[string]func() error {
	return map[string]func() error{
		"trace another process":      func() error { return unix.PtraceSeize(t.Victim) },
		"open another's memory":      openFor(fmt.Sprintf("/proc/%d/mem", t.Victim), unix.O_RDONLY),
		"signal another process":     func() error { return unix.Kill(t.Victim, 0) },
		"get another's descriptor":   func() error { return getDescriptor(t.Victim) },
		"make a user namespace":      func() error { return unix.Unshare(unix.CLONE_NEWUSER) },
		"be cloned into a namespace": cloneUser,
		"type into a terminal": func() error { // it has none: ENOTTY without a filter
			err := unix.IoctlSetPointerInt(0, unix.TIOCSTI, 'x')
			if err == unix.ENOTTY {
				return nil
			}
			return err
		},
		"dump core": func() error {
			var limit unix.Rlimit
			if unix.Getrlimit(unix.RLIMIT_CORE, &limit); limit.Max == 0 {
				return unix.EPERM
			}
			return nil
		},
	}
}

func getDescriptor(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	_, err = unix.PidfdGetfd(fd, 0, 0)
	return err
}

func cloneUser() error {
	cmd := exec.Command(os.Args[0], "-version") // which Landlock lets it run
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}
	return cmd.Run()
}

// needed are what an honest QEMU does; each must be done under all layers.
func needed() map[string]func() error {
	return map[string]func() error{
		"needed: read a library":            openFor("/usr", unix.O_RDONLY|unix.O_DIRECTORY),
		"needed: write to /dev/null":        openFor("/dev/null", unix.O_RDWR),
		"needed: the tap's name":            func() error { return tapIoctl(unix.TUNGETIFF) },
		"needed: the tap's offloads":        func() error { return tapValue(unix.TUNSETOFFLOAD, 0) },
		"needed: a pair of sockets":         func() error { _, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0); return err },
		"needed: make a file in memory":     func() error { _, err := unix.MemfdCreate("x", 0); return err },
		"needed: read its kernel once more": openFor(os.Args[slices.Index(os.Args, "-kernel")+1], unix.O_RDONLY),
	}
}

// attack starts the hostile QEMU and returns how its attempts ended.
func attack(t *testing.T, victim int, mode sandbox.Mode) map[string]string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		os.Chmod(d, 0o755)
	}
	c := config(filepath.Join(dir, hostileName))
	self, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(c.Binary, self, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	goal := targets{Foreign: dir + "/foreign", Open: dir + "/open", Socket: dir + "/socket", Abstract: fmt.Sprintf("@qnet-test-%d-%s", os.Getpid(), mode), Victim: victim}
	os.WriteFile(goal.Foreign, []byte("words"), 0o666)
	os.Chmod(goal.Foreign, 0o666)
	os.Mkdir(goal.Open, 0o777)
	os.Chmod(goal.Open, 0o777)
	hear := func(c net.Conn) { c.Read(make([]byte, 1)) } // or the client gets a broken pipe
	for _, address := range []string{goal.Socket, goal.Abstract} {
		lab.Serve(t, "unix", address, hear)
	}
	os.Chmod(goal.Socket, 0o777)
	goal.TCP = lab.Serve(t, "tcp", "127.0.0.1:0", hear)
	heard, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { heard.Close() })
	goal.UDP = heard.LocalAddr().String()
	text, _ := json.Marshal(goal)
	c.Kernel = image(t, text)
	c.NICs = []machine.NIC{{MAC: mac, Taps: openTap(t, 1)}}
	var out strings.Builder
	_, err = qemu.Start(t.Context(), c, qemu.StartOptions{Credential: nobody, Stderr: &out, Sandbox: mode})
	if err == nil || !strings.Contains(err.Error(), "status 7") {
		t.Fatalf("got %v: %s", err, &out)
	}
	return results(out.String())
}

func results(text string) map[string]string {
	list := map[string]string{}
	for line := range strings.Lines(text) {
		if words, ok := strings.CutPrefix(strings.TrimSpace(line), "attempt "); ok {
			i := strings.LastIndex(words, ": done")
			if i < 0 {
				i = strings.LastIndex(words, ": denied")
			}
			list[words[:i]] = words[i+2:]
		}
	}
	return list
}

// A QEMU that its guest has taken over can do nothing to the host, its user's other
// processes, and other guests. Without the layers it can do nearly all of it, which shows
// that the attempts are real.
func TestTakenOverQEMU(t *testing.T) {
	lab.Require(t, lab.Root, lab.Tun, lab.Need{Name: "Landlock of version 6", OK: func() bool { return confine.Landlock() >= 6 }})
	victim := exec.Command("/bin/sleep", "300")
	victim.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody.UID, Gid: nobody.GID}}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { victim.Process.Kill(); victim.Wait() })
	time.Sleep(50 * time.Millisecond) // until it is dumpable, behind its execve
	open, confined := attack(t, victim.Process.Pid, sandbox.Off), attack(t, victim.Process.Pid, sandbox.Required)
	if len(open) != len(confined) || len(open) < 40 {
		t.Errorf("%d and %d attempts", len(open), len(confined))
	}
	denied := 0
	for _, name := range slices.Sorted(maps.Keys(confined)) {
		want := "denied"
		if strings.HasPrefix(name, "needed") {
			want = "done"
		}
		if got := confined[name]; !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want it %s", name, got, want)
		}
		if got := open[name]; got != "done" {
			denied++
			t.Logf("without the layers, too, %s is %s", name, got)
		}
	}
	if denied > 3 {
		t.Errorf("%d attempts fail without the layers, too", denied)
	}
}
