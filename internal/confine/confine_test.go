package confine

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// has reports whether the capability is in the calling thread's bounding set.
func has(t *testing.T, capability int) bool {
	t.Helper()
	v, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(capability), 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return v == 1
}

func TestDropBounding(t *testing.T) {
	const keep = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW
	done := make(chan struct{})
	go func() { // its thread ends with it
		defer close(done)
		runtime.LockOSThread()
		var before, after uint64
		for c := range unix.CAP_LAST_CAP + 1 {
			if has(t, c) {
				before |= 1 << c
			}
		}
		if err := DropBounding(keep); err != nil {
			t.Error(err)
		}
		for c := range unix.CAP_LAST_CAP + 1 {
			if has(t, c) {
				after |= 1 << c
			}
		}
		want := before // without CAP_SETPCAP nothing changes
		if os.Geteuid() == 0 && before&(1<<unix.CAP_SETPCAP) != 0 {
			want = before & keep
		}
		if after != want {
			t.Errorf("the bounding set was %x, is %x, want %x", before, after, want)
		}
	}()
	<-done
	if os.Geteuid() == 0 && !has(t, unix.CAP_CHOWN) {
		t.Error("other threads of the process lost the capability, too")
	}
}
