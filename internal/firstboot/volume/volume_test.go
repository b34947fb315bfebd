package volume

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/qnet-vm/qnet/internal/firstboot"
)

// The files hold what the seed says, and nobody can write to them, not even by opening them
// again.
func TestFiles(t *testing.T) {
	seed := firstboot.Seed{
		Documents:   []firstboot.Document{{Name: "user-data", Text: "#cloud-config\n"}, {Name: "meta-data", Text: "{}"}},
		Credentials: []string{"io.systemd.credential:a=b", "c"}, Ignition: []byte("{}"),
	}
	f, err := Make(seed)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if len(f.SMBIOS) != 2 {
		t.Fatalf("got %+v", f)
	}
	for file, want := range map[*os.File]string{f.Disk: "#cloud-config\n", f.SMBIOS[0]: seed.Credentials[0], f.SMBIOS[1]: "c", f.Ignition: "{}"} {
		b, err := io.ReadAll(file)
		if err != nil || !bytes.Contains(b, []byte(want)) {
			t.Errorf("%s: %v, %.50q", file.Name(), err, b)
		}
		if _, err := file.Write([]byte("x")); err == nil {
			t.Errorf("%s was written to", file.Name())
		}
		if w, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", file.Fd()), os.O_RDWR, 0); err == nil {
			if _, err := w.Write([]byte("x")); err == nil {
				t.Errorf("%s was opened again and written to", file.Name())
			}
			w.Close()
		}
	}
}

// A seed without a part has no file of it.
func TestNoFiles(t *testing.T) {
	f, err := Make(firstboot.Seed{})
	if err != nil || f.Disk != nil || f.SMBIOS != nil || f.Ignition != nil {
		t.Errorf("got %+v, %v", f, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
