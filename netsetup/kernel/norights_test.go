package kernel

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// WriteConfig and RemoveConfig take the directory along only if they made it.
func TestConfigFiles(t *testing.T) {
	h := &Host{}
	dir := t.TempDir()
	made, own := filepath.Join(dir, "made", "qnet.conf"), filepath.Join(dir, "qnet.conf")
	if _, err := h.ReadConfig(t.Context(), made); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want ErrNotExist", err)
	}
	for _, path := range []string{made, own} {
		for _, text := range []string{"first\n", "second\n"} {
			if err := h.WriteConfig(t.Context(), path, text); err != nil {
				t.Fatal(err)
			}
			if got, err := h.ReadConfig(t.Context(), path); err != nil || !strings.HasPrefix(got, text) {
				t.Errorf("%s: got %q, %v", path, got, err)
			}
		}
		for range 2 { // a file that is gone is no error
			if err := h.RemoveConfig(t.Context(), path); err != nil {
				t.Error(err)
			}
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// A directory with another program's file stays.
func TestRemoveConfigLeavesOthersFiles(t *testing.T) {
	h := &Host{}
	path := filepath.Join(t.TempDir(), "made", "qnet.conf")
	if err := h.WriteConfig(t.Context(), path, "ours\n"); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(filepath.Dir(path), "other.conf")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.RemoveConfig(t.Context(), path); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(other); err != nil {
		t.Error(err)
	}
}

// A file that is no tun device makes no tap, and the error names the tap.
func TestGiveTapRefusesOtherFiles(t *testing.T) {
	h := &Host{}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	err = h.GiveTap(t.Context(), "qnweb0", []*os.File{null})
	if !errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), `"qnweb0"`) {
		t.Errorf("got %v", err)
	}
	if err := h.GiveTap(t.Context(), "qnweb0", nil); err != nil {
		t.Errorf("an empty list: %v", err)
	}
}

// /dev/tapN of another network namespace is known by its device number.
func TestIsDevice(t *testing.T) {
	null, err := os.Open(os.DevNull) // 1, 3 in Documentation/admin-guide/devices.txt
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := isDevice(int(null.Fd()), "1:3"); err != nil {
		t.Error(err)
	}
	if err := isDevice(int(null.Fd()), "1:5"); !errors.Is(err, step.ErrNoTapDevice) || !strings.Contains(err.Error(), "it is 1:5, the one found is 1:3") {
		t.Errorf("got %v", err)
	}
}

// The error of a sysctl has the cause and no path.
func TestSetSysctlOfNoKey(t *testing.T) {
	err := (&Host{}).SetSysctl(t.Context(), "net/ipv4/conf/no-such-link/forwarding", "1")
	if !errors.Is(err, unix.ENOENT) || strings.Contains(err.Error(), "/proc/sys") {
		t.Errorf("got %v", err)
	}
}

func TestWarn(t *testing.T) {
	h := &Host{}
	var got string
	h.OnWarn(func(text string) { got = text })
	if h.Kernel().Warn("a text"); got != "a text" {
		t.Errorf("got %q", got)
	}
}
