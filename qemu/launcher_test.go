package qemu_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/qemu"
)

// launcherVariable makes the test binary start the QEMU it names and wait.
const launcherVariable = "QNET_TEST_LAUNCHER"

func launcher() {
	c := config(os.Getenv(launcherVariable))
	vm, err := qemu.Start(context.Background(), c, qemu.StartOptions{})
	if err != nil {
		panic(err)
	}
	fmt.Println(vm.PID())
	time.Sleep(time.Minute)
}

// TestQEMUDiesWithItsLauncher kills a process that started QEMU.
func TestQEMUDiesWithItsLauncher(t *testing.T) {
	binary := requireQEMU(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), launcherVariable+"="+binary)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("got %q, want a process id", line)
	}
	if !alive(pid) {
		t.Fatal("QEMU is not there")
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for deadline := time.Now().Add(5 * time.Second); alive(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatal("QEMU outlived its launcher")
		}
	}
}

// alive reports whether the process exists and is not just waiting to be
// reaped.
func alive(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return err == nil && !strings.Contains(string(status), "State:\tZ")
}
