package dns

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

func TestResolvConfChanges(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "resolv.conf")
	r := &resolvConf{path: path}
	expect := func(why string, want ...netip.Addr) {
		t.Helper()
		if got := r.current(); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", why, got, want)
		}
	}
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	a, b := writeConf(t, filepath.Join(dir, "a"), one), writeConf(t, filepath.Join(dir, "b"), two)

	local := netip.MustParseAddr("127.0.0.1")
	expect("missing", local)
	writeConf(t, path, one)
	expect("appeared", one)
	writeConf(t, path, two) // same size, maybe the same tick of the clock
	expect("rewritten", two)
	os.Remove(path)
	expect("removed", local)
	os.Symlink(a, path)
	expect("link", one)
	os.Remove(path)
	os.Symlink(b, path)
	expect("link elsewhere", two)
	os.Remove(b)
	expect("link to nothing", local)
	writeConf(t, b)
	expect("empty", local)
	os.Remove(path)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	expect("pipe", local) // must not wait for a writer
}

func TestResolvConfIsNotReadForEachQuery(t *testing.T) {
	one := netip.MustParseAddr("192.0.2.1")
	path := writeConf(t, filepath.Join(t.TempDir(), "resolv.conf"), one)
	r := &resolvConf{path: path, every: time.Hour}
	r.current()
	os.Remove(path)
	if got := r.current(); len(got) != 1 {
		t.Errorf("got %v, want what was read before", got)
	}
	if every := defaultLimits().recheck; every > time.Second {
		t.Errorf("a change is noticed after %v only", every)
	}
}

func writeConf(t *testing.T, path string, servers ...netip.Addr) string {
	t.Helper()
	var text string
	for _, s := range servers {
		text += "nameserver " + s.String() + "\n"
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
