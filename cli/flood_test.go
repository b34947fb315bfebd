package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/lab"
)

const (
	floodSize = 10000
	// floodMemory is what a flood may cost a process. A release's process is below 64 MiB then;
	// under the race detector it is larger before, and all that it allocates counts twice and more.
	floodMemory = 48 << 20
	floodFiles  = 100
)

// peak is the most memory that a process has had so far, in bytes (proc_pid_status(5)).
func peak(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	kib, err := strconv.Atoi(string(regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

func filesOf(t *testing.T, pid int) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// flood makes connections that say nothing, or the words, and keeps all of them open until the
// end. From time to time it calls meanwhile.
func flood(t *testing.T, socket string, kind int, words string, meanwhile func()) {
	t.Helper()
	var open []int
	defer func() {
		for _, fd := range open {
			unix.Close(fd)
		}
	}()
	for i := range floodSize {
		fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, fd)
		for begin := time.Now(); ; time.Sleep(time.Millisecond) {
			err := unix.Connect(fd, &unix.SockaddrUnix{Name: socket})
			if err == nil {
				break
			}
			if !errors.Is(err, unix.EAGAIN) || time.Since(begin) > 20*time.Second { // EAGAIN: so many are not accepted yet
				t.Fatalf("connection %d: %v", i, err)
			}
		}
		unix.Write(fd, []byte(words))
		if i%1000 == 999 {
			meanwhile()
		}
	}
}

// Ten thousand connections to a supervisor's and to a keeper's socket cost neither of them its
// memory or its descriptors. Proper clients are served meanwhile, and afterwards.
func TestFloodOfConnections(t *testing.T) {
	inLab(t, func(l *testHost) {
		var limit unix.Rlimit
		if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); limit.Cur < floodSize+1000 {
			limit.Cur, limit.Max = floodSize+1000, max(limit.Max, floodSize+1000)
			if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
				t.Fatal(err)
			}
		}
		l.must("run", "-d", l.profile("vm", idle+"[[nic]]\nmode = \"nat\"\n"))
		vm, keeper := filepath.Join(l.run, "vms/vm/control.sock"), filepath.Join(l.run, "networks/nat/keeper.sock")
		supervisor, keeperPID := l.state("vm").PID, l.networks()[0].KeeperPID
		for _, c := range []struct {
			what, socket, words string
			kind, pid           int
			inside              bool // their requests are served: no place is left for others until they go
		}{
			{"silent, supervisor", vm, "", unix.SOCK_STREAM, supervisor, false},
			{"half a request, supervisor", vm, `{"op":"sta`, unix.SOCK_STREAM, supervisor, false},
			{"consoles, supervisor", vm, `{"op":"console"}` + "\n", unix.SOCK_STREAM, supervisor, true},
			{"silent, keeper", keeper, "", unix.SOCK_SEQPACKET, keeperPID, false},
			{"garbage, keeper", keeper, `{"op":7}`, unix.SOCK_SEQPACKET, keeperPID, false},
			{"info and no reading, keeper", keeper, `{"op":"info"}`, unix.SOCK_SEQPACKET, keeperPID, true},
		} {
			memory, files := peak(t, c.pid), filesOf(t, c.pid)
			most := 0
			flood(t, c.socket, c.kind, c.words, func() {
				most = max(most, filesOf(t, c.pid))
				if c.inside {
					return
				}
				if _, err := control.Find(t.Context(), l.run, "vm"); err != nil {
					t.Errorf("%s: %v", c.what, err)
				}
				if n := len(l.networks()); n != 1 {
					t.Errorf("%s: %d networks", c.what, n)
				}
			})
			grown, limit := peak(t, c.pid)-memory, files+floodFiles
			if c.inside {
				limit += 128
			}
			t.Logf("%s: %d MiB before, and %d KiB more; %d files before, %d at most", c.what, memory>>20, grown>>10, files, most)
			if grown > floodMemory || most > limit {
				t.Errorf("%s: the process grew by %d MiB, and had %d files", c.what, grown>>20, most)
			}
			l.eventuallyServed()
			l.networks()
		}
		l.must("stop", "--force", "vm")
	})
}

// eventuallyServed waits until a proper client is served: those of a flood have just hung up.
func (l *testHost) eventuallyServed() {
	l.Helper()
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		_, err := control.Find(l.Context(), l.run, "vm")
		if err == nil {
			return
		}
		if time.Since(begin) > 20*time.Second {
			l.Fatal(err)
		}
	}
}

// A file of a file system that never answers (FUSE, whose daemon is stopped) in a message for a
// keeper holds up that connection alone. Nobody asks such a file anything.
func TestKeeperIsNotHeldUpByAFile(t *testing.T) {
	lab.Require(t, lab.Program("bindfs"), lab.Program("fusermount3"))
	inLab(t, func(l *testHost) {
		d := l.dir
		lab.Sh(t, "mknod "+d+"/fuse c 10 229 && chmod 666 "+d+"/fuse && mount --bind "+d+"/fuse /dev/fuse && mkdir "+d+"/real "+d+"/slow && touch "+d+"/real/file")
		daemon := l.command()
		daemon.Path, daemon.Args = "/usr/bin/bindfs", []string{"bindfs", "-f", d + "/real", d + "/slow"}
		daemon.begin()
		defer unix.Unmount(d+"/slow", unix.MNT_DETACH)
		var fd int
		for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
			var st unix.Statfs_t
			if unix.Statfs(d+"/slow", &st); st.Type == unix.FUSE_SUPER_MAGIC {
				break
			}
			if time.Since(begin) > 10*time.Second {
				t.Fatalf("bindfs mounts nothing: %s", &daemon.errout)
			}
		}
		fd, err := unix.Open(d+"/slow/file", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		l.prepared()
		l.must("run", "-d", l.profile("vm", idle+"[[nic]]\nmode = \"nat\"\n"))
		if err := daemon.Process.Signal(unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		keeper, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Connect(keeper, &unix.SockaddrUnix{Name: filepath.Join(l.run, "networks/nat/keeper.sock")})
		}
		if err == nil {
			err = unix.Sendmsg(keeper, []byte(`{"op":"info"}`), unix.UnixRights(fd, fd, fd), nil, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		l.must("run", "-d", l.profile("other", idle+"[[nic]]\nmode = \"nat\"\n"))
		if n := len(l.networks()[0].VMs); n != 2 {
			t.Errorf("%d VMs are on the network", n)
		}
		l.must("stop", "--force", "other")
		daemon.Process.Signal(unix.SIGCONT)
		unix.Close(fd)
		unix.Close(keeper)
		l.must("stop", "--force", "vm")
		lab.Sh(t, "fusermount3 -u "+d+"/slow || umount -l "+d+"/slow")
		<-daemon.done
	})
}
