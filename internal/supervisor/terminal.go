package supervisor

import (
	"io"
	"os"
	"sync"

	"golang.org/x/term"
)

// escape is Ctrl-], as in telnet and `virsh console`.
const escape = 0x1d

// Terminal is a terminal in raw mode. Restore may be called more than once.
type Terminal struct {
	in   *os.File
	out  io.Writer
	old  *term.State
	once sync.Once
}

// RawTerminal puts the terminal into raw mode, so that every key goes to the guest.
func RawTerminal(in *os.File, out io.Writer) (*Terminal, error) {
	old, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, err
	}
	return &Terminal{in: in, out: out, old: old}, nil
}

// Restore puts the terminal back, and undoes what firmware does to it: SeaBIOS
// turns line wrap off, others leave colours or hide the cursor.
func (t *Terminal) Restore() error {
	var err error
	t.once.Do(func() {
		io.WriteString(t.out, "\x1b[?7h\x1b[0m\x1b[?25h\r") //nolint:errcheck // cosmetics
		err = term.Restore(int(t.in.Fd()), t.old)
	})
	return err
}

// KeyReader passes keys on and takes Ctrl-] q out: it calls leave for it.
// Ctrl-] twice sends one.
type KeyReader struct {
	r       io.Reader
	leave   func() (end bool)
	escaped bool
}

// NewKeyReader reads keys from r. When leave returns true, the reader ends.
func NewKeyReader(r io.Reader, leave func() (end bool)) *KeyReader {
	return &KeyReader{r: r, leave: leave}
}

// Read reads what is for the guest.
func (k *KeyReader) Read(p []byte) (int, error) {
	in := make([]byte, max(len(p)/2, 1)) // a key after Ctrl-] may come out as two
	for {
		n, err := k.r.Read(in)
		out := p[:0]
		for _, b := range in[:n] {
			switch {
			case k.escaped && (b == 'q' || b == 'Q'):
				k.escaped = false
				if k.leave() {
					return len(out), io.EOF
				}
			case k.escaped:
				k.escaped = false
				if b != escape {
					out = append(out, escape)
				}
				out = append(out, b)
			case b == escape:
				k.escaped = true
			default:
				out = append(out, b)
			}
		}
		if len(out) > 0 || err != nil {
			return len(out), err
		}
	}
}
