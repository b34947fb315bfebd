package sysbus

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// bound is how long a daemon may take from bind(2), which makes the socket's file, to
// listen(2), which makes the socket count.
const bound = time.Second

// place identifies a bus's socket as a network namespace sees it. A daemon that
// starts again makes a new file.
type place struct {
	dev, ino uint64
	made     unix.Timespec
	netns    uint64
}

// seen is the last place whose socket was looked up, and what was found. A host whose
// bus is of another namespace is asked once a second by each of several tasks, and
// the list of sockets is long where many VMs run.
var seen struct {
	sync.Mutex
	at   place
	ours bool
}

// ours reports whether the bus's daemon listens in the calling thread's network
// namespace. The kernel lists the sockets of the reader's namespace only.
func ours() bool {
	path := socket()
	if path == "" {
		return false
	}
	at, known := locate(path)
	seen.Lock()
	defer seen.Unlock()
	if known && at == seen.at {
		return seen.ours
	}
	sockets, err := os.Open("/proc/thread-self/net/unix")
	if err != nil {
		return false
	}
	defer sockets.Close()
	found := listens(sockets)
	if known && (found || time.Since(time.Unix(at.made.Unix())) > bound) {
		seen.at, seen.ours = at, found
	}
	return found
}

// locate identifies the socket; ok is false where that is not possible, as for an
// address that is no path.
func locate(path string) (at place, ok bool) {
	var file, netns unix.Stat_t
	if unix.Stat(path, &file) != nil || unix.Stat("/proc/thread-self/net/dev", &netns) != nil {
		return place{}, false
	}
	return place{file.Dev, file.Ino, file.Ctim, netns.Ino}, true
}
