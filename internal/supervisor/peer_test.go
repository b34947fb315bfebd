package supervisor

import (
	"net/netip"
	"os"
	"testing"
)

func TestRemotePeer(t *testing.T) {
	for value, want := range map[string]string{
		"192.0.2.20 51234 192.0.2.10 22":         "192.0.2.20",
		"2001:db8::20 51234 2001:db8::10 22":     "2001:db8::20",
		"::ffff:192.0.2.20 5 ::ffff:192.0.2.1 2": "192.0.2.20",
	} {
		t.Setenv(sshVariable, value)
		if got := RemotePeer(); got != netip.MustParseAddr(want) {
			t.Errorf("%q: got %s, want %s", value, got, want)
		}
	}
	t.Setenv(sshVariable, "")
	if got := RemotePeer(); got.IsValid() {
		t.Errorf("no session: got %s", got)
	}
}

func TestParentAndEnvironment(t *testing.T) {
	if got := parent(os.Getpid()); got != os.Getppid() {
		t.Errorf("parent: got %d, want %d", got, os.Getppid())
	}
	if got, ok := lookup("A=1\x00SSH_CONNECTION=x y\x00", sshVariable); !ok || got != "x y" {
		t.Errorf("got %q, %v", got, ok)
	}
}
