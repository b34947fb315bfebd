package server

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/keeper"
)

// pair returns both ends of a connection between a keeper and a supervisor.
func pair(t *testing.T) (ours, theirs *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends []*net.UnixConn
	for _, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		ends = append(ends, c.(*net.UnixConn))
	}
	return ends[0], ends[1]
}

// listener registers a supervisor that speaks the version, and returns its end.
func listener(t *testing.T, s *server, vm string, v keeper.Versions) *net.UnixConn {
	t.Helper()
	ours, theirs := pair(t)
	m := newMember(ours, v)
	s.mu.Lock()
	s.vms[vm] = m
	s.mu.Unlock()
	s.startWriter(t.Context(), m)
	t.Cleanup(m.end)
	return theirs
}

func testServer() *server {
	s := newServer(rundir.Network{Name: "dev"}, "", keeper.Spec{})
	s.log = slog.New(slog.DiscardHandler)
	return s
}

// Notes, updates and orders to replug arrive in the order in which they were said,
// also with a supervisor beside that does not read.
func TestNewsArriveInOrder(t *testing.T) {
	s := testServer()
	listener(t, s, "deaf", keeper.Speaks)
	reads := listener(t, s, "reads", keeper.Speaks)
	old := listener(t, s, "old", keeper.Versions{})
	const count = 50 // fewer than outboxLimit: none is dropped
	for i := range count {
		s.Note(keeper.Note{Text: fmt.Sprint(i)})
	}
	for i := range count {
		var rep keeper.Reply
		reads.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := keeper.Receive(reads, &rep); err != nil || len(rep.Told) != 1 || rep.Told[0].Text != fmt.Sprint(i) {
			t.Fatalf("message %d: got %+v, %v", i, rep, err)
		}
		var sentence keeper.Reply
		old.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := keeper.Receive(old, &sentence); err != nil || len(sentence.Notes) != 1 || sentence.Notes[0] != fmt.Sprint(i) {
			t.Fatalf("message %d to version 0: got %+v, %v", i, sentence, err)
		}
	}
	if len(s.notes) != noteLimit {
		t.Errorf("%d notes kept for `qnet net`, want %d", len(s.notes), noteLimit)
	}
}

// A member's end does not wait for a supervisor that does not read, and leaves the
// connection usable for the answer.
func TestMemberEndsBesideADeafSupervisor(t *testing.T) {
	s := testServer()
	theirs := listener(t, s, "deaf", keeper.Speaks)
	m := s.vms["deaf"]
	m.conn.SetWriteBuffer(4 << 10)
	for range outboxLimit {
		s.Note(keeper.Note{Text: string(make([]byte, 8<<10))})
	}
	begin := time.Now()
	m.end()
	if took := time.Since(begin); took > newsTimeout/2 {
		t.Errorf("took %s", took)
	}
	go keeper.Send(m.conn, keeper.Reply{Left: true})
	for {
		var rep keeper.Reply
		theirs.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := keeper.Receive(theirs, &rep); err != nil {
			t.Fatalf("no answer: %v", err)
		}
		if rep.Left {
			return
		}
	}
}

// NoteOnce sends a text to the VMs once, and never a text of the plan's notes, which each VM gets.
func TestNoteOnce(t *testing.T) {
	s := testServer()
	s.planNotes = []string{"known"}
	for _, text := range []string{"new", "known", "new"} {
		s.NoteOnce(keeper.Note{Text: text})
	}
	if len(s.notes) != 1 || s.notes[0].Text != "new" {
		t.Errorf("got %v", s.notes)
	}
}
