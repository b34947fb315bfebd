package catalog

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Each image of qnet's own catalog has what a pull needs: the release's checksum by HTTPS,
// a user, a title, and names that belong to it alone.
func TestBuiltInCatalog(t *testing.T) {
	c, err := Load("")
	if err != nil {
		t.Fatal(err)
	}
	owner := map[string]string{}
	for _, name := range c.Names() {
		e, _ := c.Find(name)
		if e.Sums == "" || e.User == "" || e.Title == "" || e.Own || !isURL(e.URL, "https") {
			t.Errorf("%s: %+v", name, e)
		}
		if !strings.Contains(e.URL, "x86_64") && !strings.Contains(e.URL, "amd64") {
			t.Errorf("%s: not for x86_64: %s", name, e.URL)
		}
		for _, n := range append([]string{name}, e.Aliases...) {
			if owner[n] != "" {
				t.Errorf("%s is the name of %s and of %s", n, owner[n], name)
			}
			owner[n] = name
			if got, ok := c.Find(n); !ok || got.Name != name {
				t.Errorf("%s: found %q", n, got.Name)
			}
		}
	}
	for _, want := range []string{
		"debian-11", "debian-12", "debian-13", "ubuntu-20.04", "ubuntu-22.04", "ubuntu-24.04", "fedora", "rocky", "alma", "opensuse", "arch", "alpine",
	} {
		if owner[want] == "" {
			t.Errorf("no %s", want)
		}
	}
}

func own(t *testing.T, text string) (Catalog, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileName), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(dir)
}

// The user's entries go over qnet's, by name and by alias.
func TestOwnCatalog(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	c, err := own(t, `
[debian-12]
url = "http://mirror.example/d12.raw.xz"
sha256 = "`+sum+`"
format = "raw"
[golden]
aliases = ["ubuntu"]
url = "https://example.org/golden.qcow2"
sums = "https://example.org/SHA256SUMS"
`)
	if err != nil {
		t.Fatal(err)
	}
	e, _ := c.Find("debian-12")
	if s, err := e.Sum(); !e.Own || e.Format != "raw" || err != nil || s.Hex != sum {
		t.Errorf("got %+v, %v, %v", e, s, err)
	}
	if e, ok := c.Find("ubuntu"); !ok || e.Name != "golden" {
		t.Errorf("alias: got %+v", e)
	}
	if e, ok := c.Find("debian-13"); !ok || e.Own {
		t.Errorf("qnet's own: got %+v, %v", e, ok)
	}
}

func TestBadCatalog(t *testing.T) {
	const url = `url = "https://e.org/x.qcow2"` + "\n"
	for text, want := range map[string]string{
		"[a]\n" + url + "uml = 1\n": ":3: a.uml: unknown key",
		"[a]\nurl = 7\n":            ":2: ",
		"[a\n":                      ":1: ",
		"[a]\n" + url:               "a.sums: got 0 of sums, sha256, sha512; exactly one is needed",
		"[a]\n" + url + `sums = "http://e.org/S"`:                          `a.sums: got "http://e.org/S", allowed: https://`,
		"[a]\n" + url + `sha256 = "12"`:                                    `got "12", allowed for sha256: 64 hexadecimal digits`,
		"[a]\nurl = \"ftp://e/x\"\nsums = \"https://e.org/S\"\n":           `a.url: got "ftp://e/x"`,
		"[A]\n" + url + `sums = "https://e.org/S"`:                         `A.name: got "A", allowed: ^`,
		"[a]\n" + url + "sums = \"https://e.org/S\"\nformat = \"iso\"\n":   `a.format: got "iso", allowed: qcow2, raw`,
		"[a]\n" + url + "sums = \"https://e.org/S\"\nfirmware = \"efi\"\n": `a.firmware: got "efi", allowed: bios`,
		"[a]\n" + url + "sums = \"https://e.org/S\"\nsigned = \"S.gpg\"\n": `a.signed: got "S.gpg", allowed: http`,
		"[a]\n" + url + "sums = \"https://e.org/S\"\nkeys = [\"k\"]\n":     "a.keys: nothing is signed",
	} {
		if _, err := own(t, text); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), FileName) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func TestSimilar(t *testing.T) {
	c, err := Load("")
	if err != nil {
		t.Fatal(err)
	}
	for typed, want := range map[string]string{"debain-12": "debian-12", "debian-14": "debian-13", "fedroa": "fedora-44", "ubunut": "ubuntu-26.04", "centos": "", "zz": ""} {
		got := c.Similar(typed)
		if want == "" && len(got) > 0 || want != "" && !slices.Contains(got, want) {
			t.Errorf("%s: got %v, want %q among them", typed, got, want)
		}
	}
}
