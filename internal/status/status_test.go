package status

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
)

// screen is what a terminal got.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) read(f *os.File) {
	b := make([]byte, 4096)
	for {
		n, err := f.Read(b)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.b.Write(b[:n])
		s.mu.Unlock()
	}
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// visible is what the last line shows after all that was written.
func (s *screen) visible() string {
	text := s.String()
	text = text[strings.LastIndex(text, "\n")+1:]
	if i := strings.LastIndex(text, erase); i >= 0 {
		return text[i+len(erase):]
	}
	return text
}

func onTerminal(t *testing.T) (*Line, *screen, *os.File) {
	t.Helper()
	ours, theirs := lab.Pty(t)
	l := New(theirs, "xterm")
	if !l.OnTerminal() {
		t.Fatal("a terminal is none")
	}
	s := &screen{}
	go s.read(ours)
	return l, s, theirs
}

func eventually(t *testing.T, s *screen, words string) {
	t.Helper()
	lab.Eventually(t, 5*time.Second, "the line "+words, func() bool { return strings.Contains(s.visible(), words) })
}

// What takes a moment shows nothing.
func TestShortWaitIsSilent(t *testing.T) {
	l, s, _ := onTerminal(t)
	for range 3 {
		l.Set("a moment")
		time.Sleep(patience / 5)
		l.Set("")
	}
	time.Sleep(2 * patience)
	if got := s.String(); got != "" {
		t.Errorf("shown: %q", got)
	}
}

// Several short waits in a row are a long one; the line changes with them, gives
// way, comes back with its age, and is gone at the end.
func TestLongWaitIsShown(t *testing.T) {
	l, s, out := onTerminal(t)
	begin := time.Now()
	l.Set("one")
	time.Sleep(patience / 2)
	l.Set("two")
	eventually(t, s, "two")
	if took := time.Since(begin); took < patience || strings.Contains(s.String(), "one") {
		t.Errorf("shown after %s: %q", took, s)
	}
	l.Set("three")
	eventually(t, s, "three")
	l.Erase()
	out.WriteString("a warning\n")
	eventually(t, s, "three (1s)")
	if !strings.Contains(s.String(), erase+"a warning\r\n"+erase+"three") {
		t.Errorf("with other output: %q", s)
	}
	l.Set("")
	lab.Eventually(t, 5*time.Second, "no line", func() bool { return s.visible() == "" })
	before := s.String()
	time.Sleep(1200 * time.Millisecond)
	if got := s.String(); got != before {
		t.Errorf("after the end: %q", got[len(before):])
	}
}

func TestLineFitsTheTerminal(t *testing.T) {
	l, s, out := onTerminal(t)
	if err := unix.IoctlSetWinsize(int(out.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 20}); err != nil {
		t.Fatal(err)
	}
	l.Set("waiting for something with a long name")
	eventually(t, s, "waiting for somet")
	if got := s.visible(); len(got) != 17 { // and "^C"
		t.Errorf("%d columns: %q", len(got), got)
	}
	l.Set("")
}

// Without a terminal there is no line.
func TestNoTerminal(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, theirs := lab.Pty(t)
	for _, l := range []*Line{New(theirs, "dumb"), New(f, "xterm"), New(&bytes.Buffer{}, "xterm"), nil} {
		l.Set("waiting")
		l.Erase()
		if l.OnTerminal() {
			t.Error("a file is a terminal")
		}
	}
	time.Sleep(2 * patience)
	if info, err := f.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("%d bytes in a file, %v", info.Size(), err)
	}
}
