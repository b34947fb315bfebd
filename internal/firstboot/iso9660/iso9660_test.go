package iso9660

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// isoinfo, which follows the standard, lists the same names in both directories.
func TestNames(t *testing.T) {
	image, err := Image("cidata", []File{{"user-data", []byte("u")}, {"meta-data", []byte("m")}})
	if err != nil {
		t.Fatal(err)
	}
	if len(image)%sector != 0 || !bytes.Equal(image[primaryAt*sector+1:][:5], []byte("CD001")) {
		t.Errorf("%d bytes", len(image))
	}
	for _, name := range []string{"USER-DATA.;1", "META-DATA.;1", string(wide("user-data")), string(wide("meta-data")), string(wide("cidata"))} {
		if n := bytes.Count(image, []byte(name)); n != 1 {
			t.Errorf("%q is there %d times", name, n)
		}
	}
	if _, err := exec.LookPath("isoinfo"); err != nil {
		return
	}
	path := filepath.Join(t.TempDir(), "iso")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("isoinfo", "-i", path, "-J", "-f").CombinedOutput()
	if err != nil || string(out) != "/meta-data\n/user-data\n" {
		t.Errorf("%v, %q", err, out)
	}
}

// What the volume cannot hold is refused.
func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		label string
		files []File
	}{
		"long-label": {strings.Repeat("x", 17), nil},
		"no-name":    {"cidata", []File{{"", nil}}},
		"path":       {"cidata", []File{{"a/b", nil}}},
		"upper-case": {"cidata", []File{{"README", nil}}},
		"long-name":  {"cidata", []File{{strings.Repeat("x", 31), nil}}},
		"many":       {"cidata", make([]File, 17)},
		"large":      {"cidata", []File{{"user-data", make([]byte, maxData+1)}}},
	} {
		if c.label == "cidata" && name == "many" {
			for i := range c.files {
				c.files[i].Name = "f"
			}
		}
		if _, err := Image(c.label, c.files); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
