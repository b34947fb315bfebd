package qemu_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/qemu"
	"github.com/qnet-vm/qnet/qemu/machine"
	"github.com/qnet-vm/qnet/qemu/program"
)

// fakeVariable makes the test binary behave as a QEMU with the given fault.
const fakeVariable = "QNET_TEST_FAKE_QEMU"

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == hostileName {
		os.Exit(hostile(os.Args[1:]))
	}
	if mode, ok := os.LookupEnv(fakeVariable); ok {
		os.Exit(fakeQEMU(mode, os.Args[1:]))
	}
	if os.Getenv(launcherVariable) != "" {
		launcher()
	}
	os.Exit(m.Run())
}

// fakeQEMU speaks QMP on descriptor 3 and has one fault.
func fakeQEMU(mode string, args []string) int {
	if slices.Contains(args, "-version") {
		fmt.Println("QEMU emulator version 8.0.0")
		return 0
	}
	i := slices.Index(args, "-accel")
	kvm := i >= 0 && args[i+1] == "kvm"
	if strings.HasPrefix(mode, "kvm-") && !kvm {
		mode = "good"
	}
	conn, err := net.FileConn(os.NewFile(3, "qmp"))
	if err != nil {
		return 97
	}
	version := `"major":8,"minor":0,"micro":0`
	if mode == "old" {
		version = `"major":7,"minor":1,"micro":9`
	}
	fmt.Fprintf(conn, `{"QMP":{"version":{"qemu":{%s},"package":""},"capabilities":[]}}`+"\n", version)
	if mode == "kvm-abort" {
		return abort()
	}
	return answer(conn, mode)
}

func abort() int {
	words := "echo 'qemu: warning: host has no x' >&2; echo 'qemu: error: failed to set MSR 0x10a to 0x0' >&2; echo 'kvm.c:1: Assertion failed.' >&2; "
	_ = syscall.Exec("/bin/sh", []string{"sh", "-c", words + "kill -ABRT $$"}, nil) // Go would add its own words
	return 98
}

func answer(conn net.Conn, mode string) int {
	in := bufio.NewScanner(conn)
	for in.Scan() {
		var c struct{ Execute, ID string }
		if json.Unmarshal(in.Bytes(), &c) != nil {
			return 96
		}
		value := "{}"
		switch c.Execute {
		case "quit":
			if mode != "stubborn" {
				return 0
			}
		case "system_powerdown":
			if mode == "endless-end" {
				fmt.Fprintln(conn, `{"event":"SHUTDOWN","data":{"guest":true,"reason":"guest-shutdown"}}`)
			}
		case "qom-get":
			value = `"52:54:00:aa:bb:cc"`
		case "query-status":
			value = `{"status":"running"}`
			if mode == "kvm-internal-error" {
				value = `{"status":"internal-error"}`
			}
		case "cont":
			if mode == "kvm-abort-at-cont" {
				return abort()
			}
		}
		fmt.Fprintf(conn, `{"return":%s,"id":%q}`+"\n", value, c.ID)
		if c.Execute == "cont" && mode == "kvm-poweroff" {
			fmt.Fprintln(conn, `{"event":"SHUTDOWN","data":{"guest":true,"reason":"guest-shutdown"}}`)
			return 3
		}
	}
	return 95
}

// fake returns the path of a QEMU with the given fault.
func fake(t *testing.T, mode string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return script(t, fmt.Sprintf("exec env %s=%s %s \"$@\"", fakeVariable, mode, self))
}

// script returns the path of a program in shell.
func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "qemu-system-x86_64")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// requireQEMU returns the path of the real QEMU, or skips the test: see lab.Require.
func requireQEMU(t *testing.T) string {
	t.Helper()
	binary, err := program.Find(os.Getenv("PATH"), "")
	if err == nil {
		_, err = program.Probe(t.Context(), binary)
	}
	lab.Require(t, lab.Need{Name: fmt.Sprintf("QEMU: %v", err), OK: func() bool { return err == nil }})
	return binary
}

// config returns a machine without disk and NIC.
func config(binary string) machine.Config {
	return machine.Config{Binary: binary, Name: "test", Memory: 64 << 20, CPUs: 1, Accel: machine.AccelTCG}
}

// image returns an open file with the given content.
func image(t *testing.T, content []byte) *os.File {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "disk.img"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	return f
}

// mac is the address of the NICs of these tests, and of those that fakeQEMU has.
var mac = net.HardwareAddr{0x52, 0x54, 0, 0xaa, 0xbb, 0xcc}

// start is Start, with the machine killed at the end of the test.
func start(t *testing.T, c machine.Config, o qemu.StartOptions) *qemu.VM {
	t.Helper()
	if o.Warn == nil {
		o.Warn = func(w string) { t.Error("unexpected warning:", w) }
	}
	vm, err := qemu.Start(t.Context(), c, o)
	if err != nil {
		t.Fatal(err)
	}
	tend(t, vm)
	return vm
}

// tend reads the console and ends the machine with the test.
func tend(t *testing.T, vm *qemu.VM) {
	t.Helper()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, vm.Console())
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(vm.PID(), syscall.SIGKILL)
		vm.Wait()
		<-drained
		_ = vm.Console().Close()
	})
}
