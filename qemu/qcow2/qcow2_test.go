package qcow2

import (
	"os"
	"testing"
)

func TestOverlayLeavesNoFile(t *testing.T) {
	dir := t.TempDir()
	f, err := NewOverlay(dir, 5<<40)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("got %v in %s, want nothing", entries, dir)
	}
	if _, err := NewOverlay(dir, 1<<60); err == nil {
		t.Error("a disk of an exbibyte fits")
	}
}

func TestHeaderOfAnOverlay(t *testing.T) {
	for _, size := range []int64{0, 512, 1<<30 + 1, 5 << 40} {
		f, err := NewOverlay(t.TempDir(), size)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		h, found, err := Read(f)
		if err != nil || !found || h.Version != 3 || h.Unusable() != "" {
			t.Errorf("%d bytes: got %+v, %v, %v", size, h, found, err)
		}
		if got := int64(h.Size); got < size || got >= size+512 {
			t.Errorf("%d bytes: the image is of %d", size, got)
		}
	}
}

func TestHeaderOfAnotherFile(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, found, err := Read(f); found || err != nil {
		t.Errorf("got %v, %v", found, err)
	}
}
