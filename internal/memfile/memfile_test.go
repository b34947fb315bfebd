package memfile

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

// The file is read from its begin, and nobody can write to it, not even by opening it again.
func TestNew(t *testing.T) {
	f, err := New("kernel", strings.NewReader("text"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, err := io.ReadAll(f); err != nil || string(b) != "text" || f.Name() != "kernel" {
		t.Errorf("got %q, %v", b, err)
	}
	if _, err := f.Write([]byte("x")); err == nil {
		t.Error("it was written to")
	}
	w, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_RDWR, 0)
	if err != nil {
		return // the caller is not root
	}
	defer w.Close()
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("it was opened again and written to")
	}
}
