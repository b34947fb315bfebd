package rig

import (
	"cmp"
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
	"github.com/qnet-vm/qnet/qemu/machine"
)

//go:embed recipe.sh
var recipe []byte

// Spec is a VM for either side of a contest: 128 MiB, one vCPU, TCG.
type Spec struct {
	Name    string
	Mode    string
	Network string // qnet's; the recipe has one
	First   bool   // the recipe's script makes the bridge, too
	Halted  bool   // a firmware that halts at once, in place of the guest
	Cmdline string // of the guest
	CPUs    int    // 0 is 1
	Queues  int    // of the recipe's tap, 0 is 1
	Extra   []string
	Sandbox string // of qnet's --sandbox, "" for its default

	Unguarded bool     // qnet's NIC has guard = "off"
	Ports     []string // of the host that lead to qnet's NIC

	backend string // of QEMU's netdev; the recipe sets it
}

// VM is a VM that runs.
type VM struct {
	Running time.Duration // from exec to running vCPUs
	Guest   *Guest        // after Boot

	cmd   *exec.Cmd
	ended chan struct{} // closed when the command has ended: the host is as before
	qemu  int           // pid
	qmp   net.Conn
}

// startTimeout bounds the start of a VM.
const startTimeout = 30 * time.Second

// QnetVM runs `qnet run`, with one more monitor for the bench.
func (r *Rig) QnetVM(s Spec) (*VM, error) {
	profile := filepath.Join(r.Dir, s.Name+".toml")
	text := fmt.Sprintf("memory = \"128MiB\"\ncpus = %d\naccel = \"tcg\"\n", max(s.CPUs, 1))
	if !s.Halted {
		text += fmt.Sprintf("[boot]\nkernel = %q\ninitrd = %q\ncmdline = %q\n", r.Kernel(), r.Initrd(), s.kernelArgs())
	}
	text += fmt.Sprintf("[[nic]]\nmode = %q\n", s.Mode)
	if s.Network != "" {
		text += fmt.Sprintf("network = %q\n", s.Network)
	}
	if s.Unguarded {
		text += "guard = \"off\"\n"
	}
	if s.Ports != nil {
		text += fmt.Sprintf("ports = [\"%s\"]\n", strings.Join(s.Ports, `", "`))
	}
	if s.Mode == "bridge" {
		text += "[network.bridge]\nuplink = \"eth1\"\n"
	}
	if err := os.WriteFile(profile, []byte(text), 0o644); err != nil {
		return nil, err
	}
	return r.startVM(s, func(extra []string) []string {
		return append([]string{r.Qnet, "run", "--sandbox=" + cmp.Or(s.Sandbox, "auto"), profile, "--"}, extra...)
	})
}

// RecipeVM runs the recipe. QEMU gets the arguments that qnet would give it, with paths
// in place of open files.
func (r *Rig) RecipeVM(s Spec) (*VM, error) {
	multi := ""
	if s.Queues > 1 {
		multi = "multi_queue"
	}
	if err := os.Setenv("TAP_OPTIONS", multi); err != nil {
		return nil, err
	}
	return r.startVM(s, func(extra []string) []string {
		s.backend = fmt.Sprintf(`{"type":"tap","id":"net0","ifname":"t%s","script":"no","downscript":"no","queues":%d}`, s.Name, max(s.Queues, 1))
		return r.recipeArgs(s.Mode, "t"+s.Name, s.First, r.rawQEMU(s, extra)...)
	})
}

// recipeArgs run the recipe around a command.
func (r *Rig) recipeArgs(mode, tap string, first bool, command ...string) []string {
	alone := "no"
	if first {
		alone = "yes"
	}
	return append([]string{filepath.Join(r.Dir, "recipe.sh"), mode, tap, alone}, command...)
}

// RawVM runs QEMU alone, on another backend than a tap.
func (r *Rig) RawVM(s Spec) (*VM, error) {
	return r.startVM(s, func(extra []string) []string { return r.rawQEMU(s, extra) })
}

func (r *Rig) rawQEMU(s Spec, extra []string) []string {
	c := machine.Config{
		Name: s.Name, Memory: 128 << 20, CPUs: max(s.CPUs, 1), Accel: machine.AccelTCG,
		NICs: []machine.NIC{{MAC: net.HardwareAddr{0x52, 0x54, 0, 1, 2, s.Name[len(s.Name)-1]}, User: true}}, Extra: extra,
	}
	if s.Queues > 1 {
		c.NICs[0].User, c.NICs[0].Taps = false, make([]*os.File, s.Queues)
	}
	command, err := machine.Command(c, nil, nil)
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
	if s.Halted {
		return argv
	}
	return append(argv, "-kernel", r.Kernel(), "-initrd", r.Initrd(), "-append", s.kernelArgs())
}

// startVM runs a command that starts QEMU, and waits until the vCPUs run.
func (r *Rig) startVM(s Spec, argv func(extra []string) []string) (*VM, error) {
	monitor, err := listen(filepath.Join(r.Dir, s.Name+".qmp"))
	if err != nil {
		return nil, err
	}
	defer monitor.Close()
	v := &VM{ended: make(chan struct{})}
	extra := append([]string{"-chardev", "socket,id=bench,path=" + monitor.Addr().String(), "-mon", "chardev=bench,mode=control"}, s.Extra...)
	if s.Halted {
		bios, err := r.HaltingBIOS()
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
		v.cmd.Wait() // stderr says more
		close(v.ended)
		monitor.Close()
	}()
	monitor.SetDeadline(begin.Add(startTimeout)) // a deadline in the future
	if err := v.awaitRunning(monitor); err != nil {
		v.cmd.Process.Kill() // it may have ended
		<-v.ended
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, log)
	}
	v.Running = time.Since(begin)
	return v, nil
}

func listen(path string) (*net.UnixListener, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	return l, os.Chmod(path, 0o777) // QEMU is nobody
}

// awaitRunning asks QEMU for its state. If the vCPUs do not run yet, it waits for QEMU's
// event.
func (v *VM) awaitRunning(l *net.UnixListener) error {
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

// Kill ends QEMU by SIGKILL. It returns how long the command then ran, from the signal
// and from the end of QEMU's process: after that the host is as before.
func (v *VM) Kill() (fromSignal, fromExit time.Duration, err error) {
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

// Kernel is the path of the guest's kernel, in the folder of the profiles.
func (r *Rig) Kernel() string { return filepath.Join(r.Dir, "guest-vmlinuz") }

// Initrd is the path of the guest's initramfs, with wire in it.
func (r *Rig) Initrd() string { return filepath.Join(r.Dir, "initrd.gz") }

// makeInitrd writes the test guest's initramfs with wire in it, and puts its kernel beside it.
func (r *Rig) makeInitrd() error {
	initrd, err := os.ReadFile(filepath.Join(r.Cache, "guest", "initrd.gz"))
	if err != nil {
		return err
	}
	program, err := os.ReadFile(r.Wire)
	if err != nil {
		return err
	}
	more, err := guestfiles.Archive("bin/wire", program)
	if err != nil {
		return err
	}
	if _, err := guestfiles.Put(filepath.Join(r.Cache, "guest", "vmlinuz"), r.Dir); err != nil {
		return err
	}
	return os.WriteFile(r.Initrd(), append(initrd, more...), 0o644)
}

// HaltingBIOS writes a firmware that halts at the reset vector: such a VM uses no CPU. As Linux does when
// it has a better one, it stops the PIT first (pit_shutdown in
// drivers/clocksource/i8253.c), for which QEMU would wake up every 27 ms.
func (r *Rig) HaltingBIOS() (string, error) {
	rom := make([]byte, 64<<10)
	copy(rom[0xfff0:], []byte{
		0xfa,       // cli
		0xb0, 0x30, // mov al, 0x30: counter 0 counts once, from what is never written
		0xe6, 0x43, // out 0x43, al
		0xf4,       // hlt
		0xeb, 0xfd, // jmp to it
	})
	path := filepath.Join(r.Dir, "halt.bios")
	return path, os.WriteFile(path, rom, 0o644)
}

func (s Spec) kernelArgs() string { return "console=ttyS0 quiet " + s.Cmdline }
