package lab

import (
	"net"
	"os"
	"strings"
	"testing"
)

// Serve accepts connections at an address until the test ends, one after the other, and ends
// each when answer returns. It returns the address that clients connect to.
func Serve(t testing.TB, network, address string, answer func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			answer(c)
			c.Close()
		}
	}()
	return l.Addr().String()
}

// Names returns the names of what a folder has, in their order, with spaces between them.
func Names(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// Meanwhile calls f with 0, 1, 2 and so on, without a pause, beside the test. stop ends that, and
// returns when the last call has.
func Meanwhile(f func(i int)) (stop func()) {
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-over:
				return
			default:
				f(i)
			}
		}
	}()
	return func() {
		close(over)
		<-ended
	}
}
