package saved

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/qnet-vm/qnet/internal/vmdir"
)

// FuzzRecord reads any file as the record of a saved VM: it is one, or the VM is unusable.
func FuzzRecord(f *testing.F) {
	for _, seed := range []string{"", "{}", "null", `{"version":1,"bytes":-1,"machine":{"args":["-S"]},"disks":[{}]}`, `{"version":9}`, `{"version":1,"disks":[null]}`, "[]"} {
		f.Add([]byte(seed))
	}
	dir, err := vmdir.New(f.TempDir(), "web")
	if err == nil {
		err = os.MkdirAll(dir.File(whole), 0o700)
	}
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(dir.File(filepath.Join(whole, recordFile)), b, 0o600); err != nil {
			t.Fatal(err)
		}
		p := Place{Dir: dir}
		r, ok, err := p.Load()
		if !ok || err == nil && r.Version != version {
			t.Errorf("got %+v, %t, %v", r, ok, err)
		}
		if err == nil {
			p.Check(r, nil)
			if file, err := p.Open(r); err == nil {
				file.Close()
			}
		}
	})
}
