package dhcp

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

// FuzzLeaseFile reads any file as that of the leases: malformed lines are passed over, and no
// address outside of the network is remembered.
func FuzzLeaseFile(f *testing.F) {
	for _, seed := range []string{"52:54:00:00:00:01 10.1.0.9\n", "52:54:00:00:00:01 10.1.0.9", "x y\n", "52:54:00:00:00:01 10.1.0.1\n52:54:00:00:00:01 192.0.2.1\n", "00:00:00:00:00:00:00:01 10.1.0.9\n", "\x00\n\n", "52:54:00:00:00:01 ::1\n"} {
		f.Add([]byte(seed))
	}
	path := filepath.Join(f.TempDir(), "leases")
	prefix := netip.MustParsePrefix("10.1.0.0/24")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := New(Config{Prefix: prefix, Address: prefix.Addr().Next(), LeaseFile: path})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for m, a := range s.pool.last {
			if !prefix.Contains(a) || a == prefix.Addr() || a == prefix.Addr().Next() {
				t.Errorf("%s has %s", m, a)
			}
		}
	})
}
