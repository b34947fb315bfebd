package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// insideEnv tells this program which of the three it is: "" outside, "first" the
// init of the namespaces, "bench" what measures.
const insideEnv = "QNET_BENCH_INSIDE"

// dirEnv is the directory of sockets and files.
const dirEnv = "QNET_BENCH_DIR"

// outside runs this program again in namespaces of its own and returns its exit
// code: nothing it does reaches the machine's network, and whatever it starts ends
// with it, however it ends.
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
	runtime.LockOSThread() // whose end would be the parent's death
	cmd := again("first")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:   unix.CLONE_NEWPID,
		Unshareflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS,
		Pdeathsig:    unix.SIGKILL,
	}
	return exitCode(cmd.Run())
}

// first is process 1: it waits for the orphans, too, which others' daemons leave.
func first() int {
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		fmt.Fprintf(os.Stderr, "bench: mount /proc: %v\n", err)
		return 1
	}
	cmd := again("bench")
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

func again(inside string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"="+inside, "LC_ALL=C", "SUDO_UID=")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) { // which said itself what failed
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
	}
	return 1
}

// resolver is the name server of the lab's Internet.
const resolver = "203.0.113.1"

// enterLab makes the host: eth0 with 192.0.2.10 and a default route into the
// namespace "inet", which stands for the Internet.
func (b *bench) enterLab() error {
	resolv := filepath.Join(b.dir, "resolv.conf")
	if err := os.WriteFile(resolv, []byte("nameserver "+resolver+"\n"), 0o644); err != nil {
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
	for k, v := range map[string]string{"QNET_RUN_DIR": b.dir + "/run", "QNET_STATE_DIR": b.dir + "/state"} {
		if err := os.Setenv(k, v); err != nil {
			return err
		}
	}
	return sh(`
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

// sh runs a shell script that must succeed within a minute.
func sh(script string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-ec", script)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", script, err, out)
	}
	return nil
}

// daemon is a program that runs until stop.
type daemon struct{ *exec.Cmd }

func background(argv ...string) (daemon, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	return daemon{cmd}, cmd.Start()
}

func (d daemon) stop() {
	d.Process.Kill() // it may have ended
	d.Wait()
}

// eventually waits until ok holds.
func eventually(what string, within time.Duration, ok func() bool) error {
	for end := time.Now().Add(within); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			return errors.New(what + ": not within " + within.String())
		}
	}
	return nil
}

// figures runs a command that prints numbers.
func figures(argv ...string) ([]float64, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
	}
	var list []float64
	for _, word := range strings.Fields(string(out)) {
		f, err := strconv.ParseFloat(word, 64)
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	return list, nil
}

// run runs a command and returns how long it took.
func run(argv ...string) (time.Duration, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(begin)
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out)
	}
	return took, err
}
