package keeper

import (
	"strings"
	"testing"
)

// A layer that the kernel or the user namespace lacks is named, and none is named twice.
func TestConfinement(t *testing.T) {
	for name, c := range map[string]struct {
		uid, landlock int
		layers, lacks string
	}{
		"all":              {1879048200, 7, "user 1879048200, filter, files (Landlock 7), tcp", ""},
		"the caller":       {1000, 4, "user 1000, filter, files (Landlock 4), tcp", ""},
		"Debian 12":        {1879048200, 2, "user 1879048200, filter, files (Landlock 2)", "tcp: "},
		"no Landlock":      {1879048200, 0, "user 1879048200, filter", "files: tcp: "},
		"no user of own":   {65534, 7, "filter, files (Landlock 7), tcp", "user: "},
		"no user but root": {0, 7, "filter, files (Landlock 7), tcp", "user: "},
	} {
		got := Confinement{UID: c.uid}
		got.decide(c.landlock)
		lacks := ""
		for _, m := range got.Missing {
			layer, why, _ := strings.Cut(m, ": ")
			if lacks += layer + ": "; why == "" {
				t.Errorf("%s: %q has no cause", name, m)
			}
		}
		if got.String() != c.layers || lacks != c.lacks {
			t.Errorf("%s: got %q, without %q", name, got, got.Lacks())
		}
	}
}
