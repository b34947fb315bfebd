package lab

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// raceVariable configures the race detector, go.dev/doc/articles/race_detector.
const raceVariable = "GORACE"

// noSleep spares the second that a process under the race detector sleeps at its end.
const noSleep = "atexit_sleep_ms=0"

// Instrument is what a test's TestMain calls before it plays a keeper, args being the
// keeper's. A keeper has neither the test's environment nor a stderr: so it starts
// again with an environment that has the race detector write to files beside the
// run directory, which NoRaces finds.
func Instrument(args []string) {
	i := slices.Index(args, "--run-dir")
	if os.Getenv(raceVariable) != "" || i < 0 || i+1 >= len(args) {
		return
	}
	log := filepath.Join(filepath.Dir(args[i+1]), "race")
	env := append(os.Environ(), raceVariable+"="+noSleep+" log_path="+log)
	syscall.Exec("/proc/self/exe", os.Args, env) // if it cannot, it goes on as it is
}

// NoRaces fails the test if a keeper whose run directory was in dir met a race.
func NoRaces(t testing.TB, dir string) {
	t.Helper()
	reports, _ := filepath.Glob(filepath.Join(dir, "race.*"))
	for _, path := range reports {
		b, _ := os.ReadFile(path)
		t.Errorf("in a keeper:\n%s", strings.TrimSpace(string(b)))
	}
}
