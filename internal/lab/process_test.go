package lab

import (
	"os/exec"
	"runtime"
	"testing"
	"time"
)

// A child outlives the thread of the goroutine that started it.
func TestStartOutlivesThread(t *testing.T) {
	for range 20 {
		cmd := exec.Command("sleep", "60")
		begun := make(chan error)
		var wait func() error
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with this
			var err error
			wait, err = Start(cmd)
			begun <- err
		}()
		if err := <-begun; err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- wait() }()
		select {
		case err := <-ended:
			t.Fatalf("the child ended: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
		cmd.Process.Kill()
		if err := <-ended; err == nil {
			t.Error("a killed child ended well")
		}
	}
}
