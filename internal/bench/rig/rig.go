// Package rig is the machine of a bench, in namespaces of its own, and the VMs on it:
// started by qnet, by the shell recipe around QEMU, or by QEMU alone.
package rig

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// stageEnv tells the program which of its three processes it is.
const stageEnv = "QNET_BENCH_STAGE"

// The stages after the first process, which makes the namespaces.
const (
	initStage  = "init"  // process 1 of the namespaces
	benchStage = "bench" // what measures
)

// dirEnv is the directory of sockets and files.
const dirEnv = "QNET_BENCH_DIR"

// Rig is the host, and what it takes to start VMs on it.
type Rig struct {
	Cache string // the repository's .cache, with the test guest
	Qnet  string // the binary measured
	Wire  string // the sender and receiver, for guests too
	Dir   string // for sockets, profiles, qnet's run and state directories
}

// Enter runs this program again in namespaces of its own. It returns inside for the
// process that measures; any other process exits with the code. Nothing that the
// inside does reaches the machine's network, and all processes end with the first.
func Enter() (inside bool, code int) {
	switch os.Getenv(stageEnv) {
	case benchStage:
		return true, 0
	case initStage:
		return false, initProcess()
	}
	return false, outside()
}

func outside() int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "bench: it needs root")
		return 1
	}
	dir, err := os.MkdirTemp("", "qb")
	if err == nil {
		defer os.RemoveAll(dir)
		err = errors.Join(os.Chmod(dir, 0o755), os.Setenv(dirEnv, dir))
	}
	if err != nil {
		return exitCode(err)
	}
	runtime.LockOSThread() // the end of the thread would be the death of the parent
	cmd := again(initStage)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:   unix.CLONE_NEWPID,
		Unshareflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS,
		Pdeathsig:    unix.SIGKILL,
	}
	return exitCode(cmd.Run())
}

// initProcess is process 1. It waits also for the processes that daemons leave behind.
func initProcess() int {
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		fmt.Fprintf(os.Stderr, "bench: mount /proc: %v\n", err)
		return 1
	}
	cmd := again(benchStage)
	if err := cmd.Start(); err != nil {
		return exitCode(err)
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return exitCode(err)
		case pid == cmd.Process.Pid:
			return status.ExitStatus()
		}
	}
}

func again(stage string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), stageEnv+"="+stage, "LC_ALL=C", "SUDO_UID=")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) { // the program has said what failed
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
	}
	return 1
}

// Resolver is the name server of the rig's Internet.
const Resolver = "203.0.113.1"

// New makes the host: eth0 with 192.0.2.10 and a default route into the namespace
// "inet", which stands for the Internet, and eth1 without addresses.
func New(cache, qnet string) (*Rig, error) {
	r := &Rig{Cache: cache, Qnet: qnet, Dir: os.Getenv(dirEnv)}
	var err error
	for _, path := range []*string{&r.Cache, &r.Qnet} {
		if *path, err = filepath.Abs(*path); err != nil {
			return nil, err
		}
	}
	r.Wire = filepath.Join(r.Cache, "bench", "wire")
	return r, errors.Join(r.makeInitrd(), os.WriteFile(filepath.Join(r.Dir, "recipe.sh"), recipe, 0o755), r.makeHost())
}

func (r *Rig) makeHost() error {
	resolv := filepath.Join(r.Dir, "resolv.conf")
	if err := os.WriteFile(resolv, []byte("nameserver "+Resolver+"\n"), 0o644); err != nil {
		return err
	}
	for _, m := range []struct {
		from, to, kind string
		flags          uintptr
	}{
		{"sysfs", "/sys", "sysfs", 0}, {"tmpfs", "/run/netns", "tmpfs", 0}, {resolv, "/etc/resolv.conf", "", unix.MS_BIND},
	} {
		if err := os.MkdirAll("/run/netns", 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.from, m.to, m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.to, err)
		}
	}
	for k, v := range map[string]string{"QNET_RUN_DIR": r.Dir + "/run", "QNET_STATE_DIR": r.Dir + "/state"} {
		if err := os.Setenv(k, v); err != nil {
			return err
		}
	}
	return Sh(`
ip link set lo up
ip netns add inet
ip link add eth0 type veth peer name lan0 netns inet
ip -n inet link set lo up
ip -n inet link set lan0 addrgenmode none up
ip link set eth0 addrgenmode none up
ip -n inet addr add 192.0.2.1/24 dev lan0
ip -n inet addr add 203.0.113.1/32 dev lo
ip addr add 192.0.2.10/24 dev eth0
ip route add default via 192.0.2.1
ip link add eth1 type veth peer name lan1 netns inet
ip -n inet link set lan1 addrgenmode none up
ip link set eth1 addrgenmode none`)
}
