package sockets

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestParse(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the table is that of a little-endian machine")
	}
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0102000A:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 101 1 0 100 0 0 10 0
   1: 00000000:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 102 1 0 100 0 0 10 0
   2: 0102000A:0035 0202000A:C350 01 00000000:00000000 00:00000000 00000000     0        0 103 1 0 100 0 0 10 0
   3: 3500007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 104 1 0 100 0 0 10 0
   4: 0102000A:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 105 1 0 100 0 0 10 0
   5: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 106 1
   6: 0000000000000000FFFF00000102000A:0035 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 107 1
   7: nonsense:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 108 1 0 100 0 0 10 0
`
	at := netip.MustParseAddrPort("10.0.2.1:53")
	var tcp, udp []string
	for _, h := range parse(table, TCP, at.Port(), Prevents(at.Addr())) {
		tcp = append(tcp, h.inode+" "+h.local.String())
	}
	for _, h := range parse(table, UDP, at.Port(), Prevents(at.Addr())) {
		udp = append(udp, h.inode)
	}
	want := []string{"101 10.0.2.1:53", "102 0.0.0.0:53", "106 [::]:53", "107 10.0.2.1:53"}
	if !slices.Equal(tcp, want) {
		t.Errorf("got %q, want %q", tcp, want)
	}
	if want := []string{"101", "102", "103", "106", "107"}; !slices.Equal(udp, want) {
		t.Errorf("got %q, want %q", udp, want)
	}
}

// Without the right to read /proc/*/fd, the address is named all the same.
func TestDescribeWithoutRights(t *testing.T) {
	proc := t.TempDir()
	dir := filepath.Join(proc, "thread-self", "net")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	line := "0: 00000000:0035 00000000:0000 07 0:0 00:0 0 0 0 102 1\n"
	if err := os.WriteFile(filepath.Join(dir, "udp"), []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "udp6")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort("10.0.2.1:53")
	if got, want := Describe(proc, UDP, at.Port(), Prevents(at.Addr())), " at 0.0.0.0:53"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := Describe(proc, TCP, at.Port(), Prevents(at.Addr())); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
}
