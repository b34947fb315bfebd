package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	guestfiles "github.com/qnet-vm/qnet/internal/lab/guest"
	"github.com/qnet-vm/qnet/qemu"
)

//go:embed recipe.sh
var recipe []byte

// spec is a VM for either side of a contest: 128 MiB, one vCPU, TCG.
type spec struct {
	name    string
	mode    string
	network string // qnet's; the recipe has one
	first   bool   // the recipe's script makes the bridge, too
	halted  bool   // a firmware that halts at once, in place of the guest
	cmdline string // of the guest
	cpus    int    // 0 is 1
	queues  int    // of the recipe's tap, 0 is 1
	backend string // of QEMU's netdev; the recipe sets it
	extra   []string
}

// vm is one that runs.
type vm struct {
	cmd     *exec.Cmd
	ended   chan struct{} // the command's end: the host is as it was
	qemu    int           // pid
	running time.Duration // from exec to running vCPUs
	qmp     net.Conn
	guest   *guest // after boot
}

// startTime bounds the start of a VM.
const startTime = 30 * time.Second

// qnetVM runs `qnet run`, with one more monitor for the bench.
func (b *bench) qnetVM(s spec) (*vm, error) {
	profile := filepath.Join(b.dir, s.name+".toml")
	text := fmt.Sprintf("memory = \"128MiB\"\ncpus = %d\naccel = \"tcg\"\n", max(s.cpus, 1))
	if !s.halted {
		text += fmt.Sprintf("[boot]\nkernel = %q\ninitrd = %q\ncmdline = %q\n", b.kernel(), b.initrd(), s.kernelArgs())
	}
	text += fmt.Sprintf("[[nic]]\nmode = %q\n", s.mode)
	if s.network != "" {
		text += fmt.Sprintf("network = %q\n", s.network)
	}
	if s.mode == "bridge" {
		text += "[network.bridge]\nuplink = \"eth1\"\n"
	}
	if err := os.WriteFile(profile, []byte(text), 0o644); err != nil {
		return nil, err
	}
	return b.startVM(s, func(extra []string) []string {
		return append([]string{b.qnet, "run", profile, "--"}, extra...)
	})
}

// recipeVM runs the recipe with the arguments that qnet would give to QEMU, but for
// what it passes as open files.
func (b *bench) recipeVM(s spec) (*vm, error) {
	multi := ""
	if s.queues > 1 {
		multi = "multi_queue"
	}
	if err := os.Setenv("TAP_OPTIONS", multi); err != nil {
		return nil, err
	}
	return b.startVM(s, func(extra []string) []string {
		s.backend = fmt.Sprintf(`{"type":"tap","id":"net0","ifname":"t%s","script":"no","downscript":"no","queues":%d}`, s.name, max(s.queues, 1))
		return b.recipeArgs(s.mode, "t"+s.name, s.first, b.rawQEMU(s, extra)...)
	})
}

// recipeArgs run the recipe around a command.
func (b *bench) recipeArgs(mode, tap string, first bool, command ...string) []string {
	alone := "no"
	if first {
		alone = "yes"
	}
	return append([]string{filepath.Join(b.dir, "recipe.sh"), mode, tap, alone}, command...)
}

// rawVM runs QEMU alone, on another backend than a tap.
func (b *bench) rawVM(s spec) (*vm, error) {
	return b.startVM(s, func(extra []string) []string { return b.rawQEMU(s, extra) })
}

func (b *bench) rawQEMU(s spec, extra []string) []string {
	c := qemu.Config{
		Name: s.name, Memory: 128 << 20, CPUs: max(s.cpus, 1), Accel: qemu.AccelTCG,
		NICs: []qemu.NIC{{MAC: net.HardwareAddr{0x52, 0x54, 0, 1, 2, s.name[len(s.name)-1]}, User: true}}, Extra: extra,
	}
	if s.queues > 1 {
		c.NICs[0].User, c.NICs[0].Taps = false, make([]*os.File, s.queues)
	}
	command, err := qemu.Command(c, nil, nil)
	if err != nil {
		panic(err) // the config is ours
	}
	argv := []string{"qemu-system-x86_64"}
	for _, arg := range command.Args {
		switch {
		case arg == "-S":
			continue
		case strings.HasPrefix(arg, "socket,id=qmp"):
			arg = "null,id=qmp"
		case strings.HasPrefix(arg, "socket,id=console"):
			arg = "null,id=console"
		case strings.Contains(arg, `"id":"net0"`) && s.backend != "":
			arg = s.backend
		}
		argv = append(argv, arg)
	}
	if s.halted {
		return argv
	}
	return append(argv, "-kernel", b.kernel(), "-initrd", b.initrd(), "-append", s.kernelArgs())
}

// startVM runs a command that leads to a QEMU, and waits until that runs.
func (b *bench) startVM(s spec, argv func(extra []string) []string) (*vm, error) {
	monitor, err := listen(filepath.Join(b.dir, s.name+".qmp"))
	if err != nil {
		return nil, err
	}
	defer monitor.Close()
	v := &vm{ended: make(chan struct{})}
	extra := append([]string{"-chardev", "socket,id=bench,path=" + monitor.Addr().String(), "-mon", "chardev=bench,mode=control"}, s.extra...)
	if s.halted {
		bios, err := b.haltingBIOS()
		if err != nil {
			return nil, err
		}
		extra = append(extra, "-bios", bios)
	}
	command := argv(extra)
	v.cmd = exec.Command(command[0], command[1:]...)
	// A session of its own, as qnet gives QEMU one: the scheduler shares between sessions.
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	log := &strings.Builder{}
	v.cmd.Stderr = log
	begin := time.Now()
	if err := v.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		v.cmd.Wait() // it says on stderr what there is to say
		close(v.ended)
		monitor.Close()
	}()
	monitor.SetDeadline(begin.Add(startTime)) // a deadline in the future
	if err := v.awaitRunning(monitor); err != nil {
		v.cmd.Process.Kill() // it may have ended
		<-v.ended
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, log)
	}
	v.running = time.Since(begin)
	return v, nil
}

func listen(path string) (*net.UnixListener, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	return l, os.Chmod(path, 0o777) // QEMU is nobody
}

// awaitRunning asks QEMU for its state once and waits for the event, where it does
// not run yet.
func (v *vm) awaitRunning(l *net.UnixListener) error {
	c, err := l.AcceptUnix()
	if err != nil {
		return err
	}
	v.qmp = c
	if v.qemu, err = peer(c); err != nil {
		return err
	}
	if _, err := c.Write([]byte(`{"execute":"qmp_capabilities"}{"execute":"query-status","id":1}`)); err != nil {
		return err
	}
	for in := json.NewDecoder(c); ; {
		var message struct {
			Event  string
			Return struct{ Running bool }
		}
		if err := in.Decode(&message); err != nil {
			return err
		}
		if message.Event == "RESUME" || message.Return.Running {
			return nil
		}
	}
}

func peer(c *net.UnixConn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	ctlErr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, ctlErr); err != nil {
		return 0, err
	}
	return int(cred.Pid), nil
}

// kill ends QEMU and returns how long the host took from there, from the signal
// and from the process's end, to be as it was.
func (v *vm) kill() (fromSignal, fromExit time.Duration, err error) {
	pidfd, err := unix.PidfdOpen(v.qemu, 0)
	if err != nil {
		return 0, 0, err
	}
	defer unix.Close(pidfd)
	signal := time.Now()
	if err := unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0); err != nil {
		return 0, 0, err
	}
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, -1)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	exit := time.Now()
	<-v.ended
	end := time.Now()
	v.qmp.Close()
	return end.Sub(signal), end.Sub(exit), nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (b *bench) kernel() string { return filepath.Join(b.cache, "guest", "vmlinuz") }
func (b *bench) initrd() string { return filepath.Join(b.dir, "initrd.gz") }

// makeInitrd is the test guest's with wire in it.
func (b *bench) makeInitrd() error {
	initrd, err := os.ReadFile(filepath.Join(b.cache, "guest", "initrd.gz"))
	if err != nil {
		return err
	}
	program, err := os.ReadFile(b.wire)
	if err != nil {
		return err
	}
	more, err := guestfiles.Archive("bin/wire", program)
	if err != nil {
		return err
	}
	return os.WriteFile(b.initrd(), append(initrd, more...), 0o644)
}

// haltingBIOS halts at the reset vector: such a VM costs no CPU. As Linux does when
// it has a better one, it stops the PIT first (pit_shutdown in
// drivers/clocksource/i8253.c), for which QEMU would wake up every 27 ms.
func (b *bench) haltingBIOS() (string, error) {
	rom := make([]byte, 64<<10)
	copy(rom[0xfff0:], []byte{
		0xfa,       // cli
		0xb0, 0x30, // mov al, 0x30: counter 0 counts once, from what is never written
		0xe6, 0x43, // out 0x43, al
		0xf4,       // hlt
		0xeb, 0xfd, // jmp to it
	})
	path := filepath.Join(b.dir, "halt.bios")
	return path, os.WriteFile(path, rom, 0o644)
}

func (s spec) kernelArgs() string { return "console=ttyS0 quiet " + s.cmdline }
