package terminal

import (
	"io"
	"strings"
	"testing"
	"time"
)

// pace is a reader that takes a chunk at a time.
type pace chan struct{}

func (p pace) Write(b []byte) (int, error) {
	<-p
	return len(b), nil
}

// A slow reader gets everything, also at the end. One that does not read misses chunks,
// holds nothing up for longer than the wait once, and gets the later ones.
func TestOutlet(t *testing.T) {
	const wait = 200 * time.Millisecond
	slow := make(pace)
	o := NewOutlet(slow, nil)
	o.wait = wait
	for range 3 {
		o.Put([]byte("x"))
	}
	go func() {
		for range 3 {
			time.Sleep(wait / 2)
			slow <- struct{}{}
		}
	}()
	o.Close()
	select {
	case <-o.done:
	default:
		t.Error("the slow reader missed the end")
	}

	read, write := io.Pipe()
	o = NewOutlet(write, nil)
	o.wait = wait
	begin := time.Now()
	for range 3 * backlog {
		o.Put([]byte("x"))
	}
	if took := time.Since(begin); took > 2*wait {
		t.Errorf("a reader that does not read held the guest up for %s", took)
	}
	got := make(chan string)
	go func() {
		b, _ := io.ReadAll(read)
		got <- string(b)
	}()
	for o.stuck {
		o.Put([]byte("y"))
	}
	o.Close()
	write.Close()
	if s := <-got; !strings.HasSuffix(s, "y") || strings.Count(s, "x") < backlog {
		t.Errorf("got %q", s)
	}
}
