package resolvconf

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestParse(t *testing.T) {
	text := `# comment
nameserver 192.0.2.1
; nameserver 192.0.2.99
	nameserver	2001:db8::1   # trailing
nameserver fe80::1%eth0
nameserver ::ffff:192.0.2.2
nameserver example.org
nameserver 192.0.2.1.5
nameserver
nameservers 192.0.2.98
search example.org
options edns0
nameserver 192.0.2.1
nameserver 192.0.2.3`
	var want []netip.Addr
	for _, s := range []string{"192.0.2.1", "2001:db8::1", "fe80::1%eth0", "192.0.2.2", "192.0.2.3"} {
		want = append(want, netip.MustParseAddr(s))
	}
	if got := parse(text); !slices.Equal(got.Servers, want) || got.TCP {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestOptions(t *testing.T) {
	for text, want := range map[string]bool{
		"options use-vc": true, "options edns0 trust-ad\noptions timeout:1 usevc\n": true, "options edns0": false, "# options use-vc": false, "options": false, "use-vc": false,
	} {
		if got := parse(text); got.TCP != want {
			t.Errorf("%q: over TCP only: %t, want %t", text, got.TCP, want)
		}
	}
}

func TestNameservers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if got := Nameservers(path); got != nil {
		t.Errorf("no file: got %v", got)
	}
	long := "nameserver 192.0.2.1\n" + strings.Repeat("#", maxSize) + "\nnameserver 192.0.2.2\n"
	if err := os.WriteFile(path, []byte(long), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := Nameservers(path); !slices.Equal(got, []netip.Addr{netip.MustParseAddr("192.0.2.1")}) {
		t.Errorf("a file that is too long: got %v", got)
	}
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	if got := Nameservers(path); got != nil && os.Geteuid() != 0 {
		t.Errorf("a file that may not be read: got %v", got)
	}
	os.Remove(path)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := Nameservers(path); got != nil { // without waiting for a writer
		t.Errorf("a pipe: got %v", got)
	}
}
