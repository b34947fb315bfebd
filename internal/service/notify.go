package service

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Socket is where a service tells its manager how it does (sd_notify(3)). Its methods do nothing
// to a nil Socket.
type Socket struct {
	path  string
	alive time.Duration // how often to tell that the service works; 0 if nobody asks
}

// NewSocket returns the socket that the environment names, nil without one.
func NewSocket(getenv func(string) string) *Socket {
	path := getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	s := &Socket{path: path}
	micros, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64)
	if pid := getenv("WATCHDOG_PID"); err == nil && micros > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		s.alive = time.Duration(micros) * time.Microsecond / 2
	}
	return s
}

// Ready tells that the guest runs.
func (s *Socket) Ready() error {
	if err := s.send("READY=1", "STATUS=running"); err != nil {
		return fmt.Errorf("tell the service manager that the VM runs: %w", err)
	}
	return nil
}

// Busy tells what the start or the end waits for, and that it may take longer, until the returned
// function is called: the download of an image takes as long as it takes.
func (s *Socket) Busy(what string, more ...string) (over func()) {
	if s == nil {
		return func() {}
	}
	lines := slices.Concat(more, []string{"STATUS=" + what, "EXTEND_TIMEOUT_USEC=" + strconv.FormatInt((2*patience).Microseconds(), 10)})
	tell := func() { s.send(lines...) } //nolint:errcheck // a manager that is gone does not wait
	tell()
	done := make(chan struct{})
	go again(done, patience, tell)
	return sync.OnceFunc(func() { close(done) })
}

// patience is how often a manager hears that it takes longer.
const patience = 30 * time.Second

// Stopping is the further line of Busy for a service that ends.
const Stopping = "STOPPING=1"

// Watch tells the manager again and again that the service works, if it wants to know, as long
// as answers returns no error. It returns when end is closed.
func (s *Socket) Watch(end <-chan struct{}, answers func(context.Context) error) {
	if s == nil || s.alive == 0 {
		return
	}
	again(end, s.alive, func() {
		ctx, cancel := context.WithTimeout(context.Background(), s.alive)
		defer cancel()
		if answers(ctx) == nil {
			s.send("WATCHDOG=1") //nolint:errcheck // the manager ends a service that says nothing
		}
	})
}

// again does something at each period, until end is closed.
func again(end <-chan struct{}, period time.Duration, do func()) {
	ticks := time.NewTicker(period)
	defer ticks.Stop()
	for {
		select {
		case <-end:
			return
		case <-ticks.C:
			do()
		}
	}
}

func (s *Socket) send(lines ...string) error {
	if s == nil {
		return nil
	}
	c, err := net.Dial("unixgram", s.path) // which knows names that begin with "@", too
	if err == nil {
		defer c.Close()
		_, err = io.WriteString(c, strings.Join(lines, "\n"))
	}
	return err
}

// Journal returns a writer for lines of text that gives each its priority, if the journal reads
// the file (JOURNAL_STREAM in systemd.exec(5), sd-daemon(3)); else the file.
func Journal(w io.Writer, getenv func(string) string) io.Writer {
	f, ok := w.(*os.File)
	if !ok || getenv("JOURNAL_STREAM") == "" {
		return w
	}
	info, err := f.Stat()
	if err != nil {
		return w
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || getenv("JOURNAL_STREAM") != fmt.Sprintf("%d:%d", st.Dev, st.Ino) {
		return w
	}
	return journal{w}
}

// journal puts the priority in front of each line.
type journal struct{ out io.Writer }

// priorities are those of syslog(3), by how a line begins; 6 is LOG_INFO.
var priorities = []struct {
	begins string
	level  byte
}{{"qnet: ", '3'}, {"warning: ", '4'}, {"note: ", '5'}, {"hint: ", '5'}}

// Write writes whole lines.
func (j journal) Write(b []byte) (int, error) {
	var out bytes.Buffer
	for line := range bytes.Lines(b) {
		level := byte('6')
		for _, p := range priorities {
			if bytes.HasPrefix(line, []byte(p.begins)) {
				level = p.level
			}
		}
		out.Write([]byte{'<', level, '>'})
		out.Write(line)
	}
	if _, err := j.out.Write(out.Bytes()); err != nil {
		return 0, err
	}
	return len(b), nil
}
