package sums

import (
	"errors"
	"strings"
	"testing"
)

var a, b, long = strings.Repeat("a1", 32), strings.Repeat("b2", 32), strings.Repeat("C3", 64)

func TestFind(t *testing.T) {
	for name, test := range map[string]struct {
		text   string
		single bool
		want   Sum
	}{
		"sha512sum":          {long + "  other.qcow2\n" + long + "  x.qcow2\n", false, Sum{SHA512, strings.ToLower(long)}},
		"sha256sum-binary":   {b + " *y.img\n" + a + " *x.qcow2\n", false, Sum{SHA256, a}},
		"with-a-directory":   {a + "  ./x.qcow2\n", false, Sum{SHA256, a}},
		"fedora":             {"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# x.qcow2: 7 bytes\nSHA256 (x.qcow2) = " + a + "\n-----BEGIN PGP SIGNATURE-----\nwsBc\n", false, Sum{SHA256, a}},
		"both":               {"SHA256 (x.qcow2) = " + a + "\nSHA512 (x.qcow2) = " + long, false, Sum{SHA512, strings.ToLower(long)}},
		"alone-another-name": {a + "  x-20260101.qcow2\n", true, Sum{SHA256, a}},
		"alone-without-name": {long + "\r\n", true, Sum{SHA512, strings.ToLower(long)}},
		"twice-the-same":     {a + "  x.qcow2\n" + a + "  x.qcow2\n", false, Sum{SHA256, a}},
		"absent":             {a + "  y.qcow2\n" + "SHA256 (x.qcow2) = " + long, false, Sum{}},
		"md5":                {strings.Repeat("ab", 16) + "  x.qcow2\n", false, Sum{}},
		"a-web-page":         {"<html>x.qcow2</html>", true, Sum{}},
		"two-different":      {a + "  x.qcow2\n" + b + "  x.qcow2\n", false, Sum{}},
		"alone-two":          {a + "  x.qcow2\n" + b + "  y.qcow2\n", true, Sum{}},
	} {
		got, err := Find([]byte(test.text), "x.qcow2", test.single)
		if got != test.want || (err == nil) != (test.want != Sum{}) {
			t.Errorf("%s: got %v, %v, want %v", name, got, err, test.want)
		}
		if name == "absent" && !errors.Is(err, ErrNotListed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestNew(t *testing.T) {
	if s, err := Parse("SHA256:" + strings.ToUpper(a)); err != nil || s.String() != "sha256:"+a {
		t.Errorf("got %v, %v", s, err)
	}
	for _, bad := range []string{"", a, "md5:" + a, "sha512:" + a, "sha256:" + a[1:], "sha256:" + a[1:] + "g"} {
		if s, err := Parse(bad); err == nil || s != (Sum{}) {
			t.Errorf("%q: got %v, %v", bad, s, err)
		}
	}
}

// The Writer agrees with sha256sum(1) and sha512sum(1) on "abc" (FIPS 180-4).
func TestWriter(t *testing.T) {
	w := NewWriter()
	w.Write([]byte("a"))
	w.Write([]byte("bc"))
	if got := w.Of(SHA256).Hex; got != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Errorf("sha256: %s", got)
	}
	if got := w.Of(SHA512).Hex; !strings.HasPrefix(got, "ddaf35a193617abacc417349ae204131") {
		t.Errorf("sha512: %s", got)
	}
}

func FuzzFind(f *testing.F) {
	f.Add([]byte("SHA256 (x) = "+a), true)
	f.Fuzz(func(t *testing.T, text []byte, single bool) {
		s, err := Find(text, "x", single)
		if (err == nil) == (s == Sum{}) {
			t.Errorf("got %v, %v", s, err)
		}
	})
}
