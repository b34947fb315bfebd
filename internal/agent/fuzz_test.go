package agent

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
	"unicode"
)

// FuzzAnswer lets the guest say anything: the question ends, nothing panics, and what the error
// says of the guest's words is short and printable.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{"1 0\n", "1 1 aGVsbG8=\n", "2 0\n1 0\n", "1 \x1b[2J\n", "1 1 G1syShsK\n", "1\n", "\n\n1  0 x y\n", "01 0\n", "1 1 ====\n", strings.Repeat("x", 3*maxAnswer) + "\n1 0\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		ours, theirs := net.Pipe()
		go io.Copy(io.Discard, theirs)
		go func() {
			theirs.Write(said)
			theirs.Close()
		}()
		c := New(ours)
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		err := c.Run(ctx, "true")
		if errors.Is(err, context.DeadlineExceeded) {
			t.Error("no end")
		}
		var status *StatusError
		if errors.As(err, &status) {
			if text := err.Error(); len(text) > maxAnswer+200 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("got %q", text)
			}
		}
	})
}
