package lab

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// InNamespace runs f on a thread in a named network namespace. The thread ends with f.
// Goroutines that f starts run in the test's own namespace.
func InNamespace(t testing.TB, ns string, f func() error) {
	t.Helper()
	result := make(chan error)
	var run func()
	run = func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// /proc/self/net shows the namespace of the main thread. So the main
			// thread waits here while another thread does the work.
			next := make(chan struct{})
			go func() {
				defer close(next)
				run()
			}()
			<-next
			runtime.UnlockOSThread()
			return
		}
		file, err := os.Open("/run/netns/" + ns)
		if err == nil {
			err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		result <- err
	}
	go run()
	if err := <-result; err != nil {
		t.Fatalf("in namespace %s: %v", ns, err)
	}
}

// Conversation opens a TCP connection from a namespace to an echo server in inet. say
// sends a line, and reports whether the same line came back within 3 s.
func Conversation(t testing.TB, from string) (say func(string) bool) {
	t.Helper()
	InNamespace(t, "inet", func() error {
		l, err := net.Listen("tcp", "203.0.113.1:7")
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go io.Copy(c, c)
			}
		}()
		return nil
	})
	var c net.Conn
	InNamespace(t, from, func() (err error) {
		c, err = net.DialTimeout("tcp", "203.0.113.1:7", 3*time.Second)
		return err
	})
	t.Cleanup(func() { c.Close() })
	lines := bufio.NewReader(c)
	return func(words string) bool {
		c.SetDeadline(time.Now().Add(3 * time.Second))
		fmt.Fprintln(c, words)
		answer, err := lines.ReadString('\n')
		return err == nil && strings.TrimSpace(answer) == words
	}
}
