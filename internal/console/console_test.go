package console

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// The guest's output goes to the log, the terminal and each client; a client's keys go
// to the guest.
func TestConsole(t *testing.T) {
	guest, ours := net.Pipe()
	var log, out bytes.Buffer
	c := New(ours, &log, &out)
	client, theirs := net.Pipe()
	attached := make(chan struct{})
	go func() {
		c.Attach(theirs, theirs)
		close(attached)
	}()
	io.WriteString(client, "ls\n")
	b := make([]byte, 3)
	if _, err := io.ReadFull(guest, b); err != nil || string(b) != "ls\n" {
		t.Fatalf("the guest got %q, %v", b, err)
	}
	pumped := make(chan struct{})
	go func() {
		c.Pump()
		close(pumped)
	}()
	io.WriteString(guest, "login: ")
	b = make([]byte, 7)
	if _, err := io.ReadFull(client, b); err != nil || string(b) != "login: " {
		t.Fatalf("the client got %q, %v", b, err)
	}
	guest.Close() // QEMU has ended
	<-pumped
	if _, err := client.Read(b); !errors.Is(err, io.EOF) {
		t.Errorf("the client stays connected: %v", err)
	}
	<-attached
	if log.String() != "login: " || out.String() != "login: " {
		t.Errorf("log %q, terminal %q", &log, &out)
	}

	late, theirs := net.Pipe()
	c.Attach(theirs, theirs)
	if _, err := late.Read(b); !errors.Is(err, io.EOF) {
		t.Errorf("a client after the end: %v", err)
	}
}

// A client that does not read does not hold the guest up.
func TestSlowClient(t *testing.T) {
	c := New(nil, io.Discard, io.Discard)
	_, theirs := net.Pipe()
	go c.Attach(blocking{}, theirs)
	for deadline := time.Now().Add(5 * time.Second); ; {
		c.mu.Lock()
		n := len(c.clients)
		c.mu.Unlock()
		if n == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("not attached")
		}
		time.Sleep(time.Millisecond)
	}
	for range 2 * backlog {
		c.spread([]byte("x"))
	}
	theirs.Close()
	c.close()
}

// blocking is a keyboard without keys.
type blocking struct{}

func (blocking) Read([]byte) (int, error) { select {} }
