package server

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
)

// dial connects to the attacked keeper.
func (a *attacked) dial(t *testing.T) *net.UnixConn {
	t.Helper()
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: a.place.Socket(), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(4 * requestTimeout))
	return c
}

// serves checks that a proper client gets its answer.
func (a *attacked) serves(t *testing.T) {
	t.Helper()
	c := a.dial(t)
	defer c.Close()
	var rep keeper.Reply
	err := keeper.Send(c, keeper.Request{Versions: keeper.Speaks, Op: keeper.OpInfo})
	if err == nil {
		_, err = keeper.Receive(c, &rep)
	}
	if err != nil || rep.Info == nil || rep.Info.Name != "dev" {
		t.Errorf("a proper client gets %+v, %v", rep, err)
	}
}

// wrongFiles are files that are no tun device's, by what they are.
func wrongFiles(t *testing.T) map[string]int {
	t.Helper()
	dir := t.TempDir()
	list := map[string]int{}
	open := func(what, path string, flags int) {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o600)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		list[what] = fd
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	open("a FIFO", filepath.Join(dir, "fifo"), unix.O_RDWR|unix.O_NONBLOCK)
	open("a file", filepath.Join(dir, "file"), unix.O_RDWR|unix.O_CREAT)
	open("a directory", dir, unix.O_RDONLY|unix.O_DIRECTORY)
	open("a path", filepath.Join(dir, "file"), unix.O_PATH)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	list["a socket"], list["its other end"] = pair[0], pair[1]
	t.Cleanup(func() {
		for _, fd := range list {
			unix.Close(fd)
		}
	})
	return list
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func joinWith(t *testing.T, vm string, queues int) []byte {
	t.Helper()
	ns, err := host.NetNS()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Appendf(nil, `{"version":1,"op":"join","netns":%q,"network":{"name":"dev","mode":"nat"},"vm":%q,"ports":[{"nic":0,"mac":"AgAAAAAB","queues":%d}]}`, ns, vm, queues)
}

// Files of other kinds than a tap's, and more of them than a message may have, end the
// connection that they came by. The keeper keeps none of them open and goes on serving.
func TestWrongFilesLeakNothing(t *testing.T) {
	a := attack(t, profiles.NAT)
	defer func() { a.stop(); <-a.ended }()
	kinds := wrongFiles(t)
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(null)
	a.serves(t)
	before := openFiles(t)
	send := func(what string, message []byte, fds []int) {
		t.Helper()
		c := a.dial(t)
		defer c.Close()
		if _, _, err := c.WriteMsgUnix(message, unix.UnixRights(fds...), nil); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		var rep keeper.Reply
		if _, err := keeper.Receive(c, &rep); err == nil && rep.Error == nil {
			t.Errorf("%s: the keeper takes it: %+v", what, rep)
		}
		a.serves(t)
	}
	for what, fd := range kinds {
		send(what, joinWith(t, "web", 1), []int{fd})
		send(what+" behind devices", joinWith(t, "web", 3), []int{null, null, fd})
		send(what+" beside no port", []byte(`{"op":"info"}`), []int{null, fd, null})
	}
	for _, n := range []int{129, 200, 253} { // SCM_MAX_FD is 253
		fds := make([]int, n)
		for i := range fds {
			fds[i] = null
		}
		send(fmt.Sprintf("%d devices", n), joinWith(t, "web", 8), fds)
		send(fmt.Sprintf("%d devices and no request", n), []byte("x"), fds)
	}
	for begin := time.Now(); openFiles(t) > before; time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("%d files are open, and were %d", openFiles(t), before)
		}
	}
	a.checkOurs(t)
}

// A client that asks nothing, asks only now and then, or reads no answer is cut off, and holds up
// neither others nor the keeper's end.
func TestSlowClientsAreCutOff(t *testing.T) {
	t.Parallel() // it waits most of the time
	a := attack(t, profiles.NAT)
	var slow []*net.UnixConn
	for range 3 {
		slow = append(slow, a.dial(t), a.dial(t), a.dial(t))
	}
	info, _ := json.Marshal(keeper.Request{Versions: keeper.Speaks, Op: keeper.OpInfo})
	ended := make(chan struct{})
	go func() { // one of each three asks each half second, one as often as it can, both without reading
		defer close(ended)
		for begin := time.Now(); time.Since(begin) < 2*requestTimeout; time.Sleep(time.Millisecond) {
			for i, c := range slow {
				if i%3 == 1 && time.Now().UnixMilli()%500 < 2 || i%3 == 2 {
					c.SetWriteDeadline(time.Now().Add(time.Millisecond))
					c.Write(info)
				}
			}
			if time.Now().UnixMilli()%1000 < 2 {
				a.serves(t)
			}
		}
	}()
	<-ended
	for i, c := range slow {
		if _, err := c.Write(info); err == nil {
			t.Errorf("client %d is not cut off", i)
		}
	}
	a.serves(t)
	a.stop()
	select {
	case <-a.ended:
	case <-time.After(4 * requestTimeout):
		t.Error("the keeper does not end")
	}
}
