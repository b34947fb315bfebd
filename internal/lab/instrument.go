package lab

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// coverDir is where coverage goes, "" for nowhere. `make cover` sets it by the
// linker, since a keeper does not get the test's environment.
var coverDir string

// coverEnv tells a process built with -cover where its counters go (go.dev/doc/build-cover).
const coverEnv = "GOCOVERDIR"

// raceEnv configures the race detector (go.dev/doc/articles/race_detector).
const raceEnv = "GORACE"

// noSleep spares the second that a process under the race detector sleeps at its end.
const noSleep = "atexit_sleep_ms=0"

// Instrument makes a process that a test started of its own binary count coverage
// and report races. TestMain calls it, before the process plays qnet or a keeper,
// with the process's arguments.
//
// A keeper has no stderr for the race detector. So a keeper starts itself again
// with an environment in which the detector writes files beside the run directory,
// where NoRaces finds them.
func Instrument(args []string) {
	if coverDir != "" {
		os.Setenv(coverEnv, coverDir) // read when the process ends
	}
	i := slices.Index(args, "--run-dir")
	if os.Getenv(raceEnv) != "" || i < 0 || i+1 >= len(args) {
		return
	}
	log := filepath.Join(filepath.Dir(args[i+1]), "race")
	env := append(os.Environ(), raceEnv+"="+noSleep+" log_path="+log)
	syscall.Exec("/proc/self/exe", os.Args, env) // if that fails, the keeper goes on without the files
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
