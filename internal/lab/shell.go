package lab

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"
)

// scriptTimeout is how long a script may run.
const scriptTimeout = 30 * time.Second

// Sh runs a shell script that must succeed within 30 s and returns its output.
func Sh(t testing.TB, script string) string {
	t.Helper()
	out, err := Try(script)
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return out
}

// Try is Sh for a script that may fail.
func Try(script string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), scriptTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-ec", script)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second // a background child may keep the pipe
	out, err := cmd.CombinedOutput()
	return string(out), err
}
