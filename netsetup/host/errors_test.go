package host

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

func TestErrors(t *testing.T) {
	refused := Refuse("plan network %q: no: do %w", "dev", unix.EBUSY)
	if !errors.Is(refused, ErrRefused) || !errors.Is(refused, unix.EBUSY) || errors.Is(refused, ErrNotOurs) || refused.Error() != `plan network "dev": no: do device or resource busy` {
		t.Errorf("got %v", refused)
	}
	for _, c := range []struct{ err, kind error }{{unix.EPERM, ErrNoPermission}, {unix.EOPNOTSUPP, ErrUnsupported}} {
		if got := Explain(fmt.Errorf("add: %w", c.err)); !errors.Is(got, c.kind) || !errors.Is(got, c.err) {
			t.Errorf("%v: got %v", c.err, got)
		}
	}
	for _, c := range []struct{ err, kind error }{
		{unix.EPERM, ErrNoPermission}, {unix.EOPNOTSUPP, ErrUnsupported}, {unix.ENOENT, ErrUnsupported}, {unix.EAFNOSUPPORT, ErrUnsupported}, {unix.EPROTONOSUPPORT, ErrUnsupported},
	} {
		if got := ExplainNFTables(fmt.Errorf("add: %w", c.err)); !errors.Is(got, c.kind) || !errors.Is(got, c.err) {
			t.Errorf("of nftables, %v: got %v", c.err, got)
		}
	}
	if ExplainNFTables(nil) != nil || !errors.Is(ExplainNFTables(unix.EBUSY), unix.EBUSY) || errors.Is(ExplainNFTables(unix.EBUSY), ErrUnsupported) {
		t.Error("other errors of nftables are changed")
	}
	if tun := OfKind(ErrNoTun, "no driver: %w", unix.ENODEV); !errors.Is(tun, ErrNoTun) || !errors.Is(tun, unix.ENODEV) || tun.Error() != "no driver: no such device" {
		t.Errorf("got %v", tun)
	}
	if busy := Explain(unix.EBUSY); Explain(nil) != nil || busy.Error() != unix.EBUSY.Error() {
		t.Error("other errors are changed")
	}
}
