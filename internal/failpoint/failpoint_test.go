package failpoint

import (
	"errors"
	"testing"
)

func TestHit(t *testing.T) {
	if err := Hit("here"); err != nil {
		t.Errorf("without a hook: %v", err)
	}
	want := errors.New("failed")
	Set(func(point string) error {
		if point == "here" {
			return want
		}
		return nil
	})
	defer Set(nil)
	if here, there := Hit("here"), Hit("there"); !errors.Is(here, want) || there != nil {
		t.Errorf("got %v and %v", here, there)
	}
}
