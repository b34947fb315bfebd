package macgen

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"testing"

	"pgregory.net/rapid"
)

func checkMAC(t interface{ Fatalf(string, ...any) }, mac net.HardwareAddr) {
	if len(mac) != 6 || [3]byte(mac[:3]) != Prefix {
		t.Fatalf("got %s, want 52:54:00:...", mac)
	}
	if mac[0]&1 != 0 {
		t.Fatalf("%s is multicast", mac)
	}
	if mac[0]&2 == 0 {
		t.Fatalf("%s is not locally administered", mac)
	}
	if parsed, err := net.ParseMAC(mac.String()); err != nil || !bytes.Equal(parsed, mac) {
		t.Fatalf("%s reads back as %s, %v", mac, parsed, err)
	}
}

func TestDeriveProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		salt := rapid.SliceOf(rapid.Byte()).Draw(t, "salt")
		identity := rapid.String().Draw(t, "identity")
		index := rapid.IntRange(0, 15).Draw(t, "index")
		mac := Derive(salt, identity, index)
		checkMAC(t, mac)
		if again := Derive(salt, identity, index); !bytes.Equal(mac, again) {
			t.Fatalf("got %s then %s", mac, again)
		}
	})
}

// 24 bits hold 16.7 million: 2,000 addresses collide by chance with a
// probability of about a ninth, and more than 3 times hardly ever.
func TestDeriveSpreads(t *testing.T) {
	seen, collisions := map[string]bool{}, 0
	for i := range 2000 {
		mac := Derive([]byte("salt"), "profile", i).String()
		if seen[mac] {
			collisions++
		}
		seen[mac] = true
	}
	if collisions > 3 {
		t.Errorf("%d of 2000 addresses collide", collisions)
	}
	if bytes.Equal(Derive([]byte("ab"), "c", 0), Derive([]byte("a"), "bc", 0)) {
		t.Error("salt and identity run together")
	}
}

func TestRandom(t *testing.T) {
	for range 10000 {
		mac, err := Random(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		checkMAC(t, mac)
	}
	if _, err := Random(bytes.NewReader([]byte{1})); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want ErrUnexpectedEOF", err)
	}
}
