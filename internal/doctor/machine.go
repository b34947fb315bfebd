package doctor

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/hardware"
	"github.com/qnet-vm/qnet/internal/vmuser"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/qemu"
	"github.com/qnet-vm/qnet/qemu/machine"
	"github.com/qnet-vm/qnet/qemu/program"
	"github.com/qnet-vm/qnet/qemu/sandbox"
)

// machineChecks are about the machine that runs a guest.
var machineChecks = []Check{
	{Name: "QEMU", Modes: all, Run: checkQEMU},
	{Name: "guests run", Modes: all, Run: checkGuests},
	{Name: "confinement", Run: checkConfinement},
	{Name: "limits", Modes: all, Run: checkLimits},
}

func checkQEMU(ctx context.Context, h *Host) []Finding {
	const install = "apt install qemu-system-x86"
	binary, err := program.Find(h.Path, h.QEMU)
	if err != nil {
		return one(Fail, install, "%s", err)
	}
	v, err := program.Probe(ctx, binary)
	if err != nil {
		return one(Fail, install+", which is 7.2 or newer on Debian 12", "%s", err)
	}
	return one(Pass, "", "%s is version %s", binary, v)
}

// bootTime is how long the firmware and the boot sector may take. Under TCG they take a
// second.
const bootTime = 15 * time.Second

// slowTime is how long the million rounds of the boot sector may take. A CPU needs less
// than a millisecond, TCG some ten.
const slowTime = 300 * time.Millisecond

// checkGuests starts a real machine with the code of a run, and waits for what its boot
// sector prints in long mode. On some hosts /dev/kvm can be opened and every guest dies
// at once; on others each instruction is emulated and takes a microsecond.
func checkGuests(ctx context.Context, h *Host) []Finding {
	binary, err := program.Find(h.Path, h.QEMU)
	if err != nil {
		return one(Unseen, "", "there is no QEMU")
	}
	disk, err := bootDisk()
	if err != nil {
		return one(Unseen, "", "%s", err)
	}
	defer disk.Close()
	small := h.machine()
	small.Binary, small.Disks = binary, []machine.Disk{{File: disk, Format: "raw", ReadOnly: true}}
	vm, err := qemu.StartAuto(ctx, small, qemu.StartOptions{Credential: vmuser.Credential(h.User, small.Name)})
	if err != nil {
		return one(Fail, h.startRemedy(err), "QEMU, in the sandbox of a run, starts no machine: %s", err)
	}
	defer vm.Stop(context.WithoutCancel(ctx), qemu.StopOptions{Force: true}) //nolint:errcheck // the machine holds nothing to keep
	took, stage := follow(vm.Console())
	switch {
	case stage != "":
		return one(Fail, tcgRemedy(vm.Accel()), "a machine under %s starts and %s within %s", vm.Accel(), stage, bootTime)
	case vm.Accel() == machine.AccelKVM && took > slowTime:
		return one(Warn, tcgRemedy(vm.Accel()), "KVM runs guests slower than TCG does: a million rounds of a loop take %s", took.Round(time.Millisecond))
	case vm.Accel() == machine.AccelKVM:
		return one(Pass, "", "under KVM, in QEMU's sandbox: a million rounds of a loop take %s", took.Round(10*time.Microsecond))
	case h.accel() == machine.AccelTCG:
		return one(Pass, "", "under TCG, as the profile says, in QEMU's sandbox")
	}
	return one(Warn, kvmRemedy(vm.NoKVM()), "only under TCG, which is slower: %s", vm.NoKVM())
}

// machine is the profile's machine, made small: what can be missing in this QEMU is its
// kind, its CPU, the models and boot ROMs of its NICs, which have no cables, and the ROM
// that starts a kernel.
func (h *Host) machine() machine.Config {
	small := machine.Config{Name: "doctor", Memory: 64 << 20, CPUs: 1, Accel: h.accel()}
	if h.Profile == nil {
		return small
	}
	of := hardware.Config(h.Profile, nil, nil, nil)
	small.Machine, small.CPU = of.Machine, of.CPU
	if of.Kernel != nil {
		small.Extra = []string{"-option-rom", "linuxboot_dma.bin"} // by which QEMU starts kernels
	}
	for _, n := range of.NICs {
		same := func(o machine.NIC) bool { return o.Model == n.Model && o.NoROM == n.NoROM }
		if !slices.ContainsFunc(small.NICs, same) {
			small.NICs = append(small.NICs, machine.NIC{Model: n.Model, MAC: n.MAC, NoROM: n.NoROM, Bare: true})
		}
	}
	return small
}

// accel is the profile's accelerator.
func (h *Host) accel() string {
	if h.Profile == nil {
		return machine.AccelAuto
	}
	return string(h.Profile.Accel)
}

// startRemedy is what to do about a machine that does not start.
func (h *Host) startRemedy(err error) string {
	if h.accel() == machine.AccelKVM && strings.Contains(err.Error(), "KVM") {
		return kvmRemedy(err.Error())
	}
	var lack *program.Lack
	if errors.As(err, &lack) {
		return lack.Remedy
	}
	return "the log of the kernel, or of the audit, may tell more: journalctl -k"
}

// tcgRemedy is what to do about a KVM that is slower than TCG.
func tcgRemedy(accel string) string {
	if accel == machine.AccelKVM {
		return `accel = "tcg" in the profile; this host is a virtual machine whose host emulates virtualization, most likely`
	}
	return ""
}

//go:embed boot.bin
var bootSector []byte

// bootDisk is a disk of 1 MiB in memory that begins with the boot sector.
func bootDisk() (*os.File, error) {
	fd, err := unix.MemfdCreate("boot", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a disk: %w", err)
	}
	f := os.NewFile(uintptr(fd), "boot")
	if _, err = f.Write(bootSector); err == nil {
		err = f.Truncate(1 << 20)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("make a disk: %w", err)
	}
	return f, nil
}

// follow reads what the boot sector prints. It returns the time between its two words, or
// the stage that the machine did not reach, in words.
func follow(console net.Conn) (took time.Duration, stage string) {
	console.SetReadDeadline(time.Now().Add(bootTime)) //nolint:errcheck // the read fails then
	stage = "its firmware says nothing"
	var begun time.Time
	for lines := bufio.NewScanner(console); lines.Scan(); {
		switch text := lines.Text(); {
		case strings.Contains(text, "qnet doctor: begin"):
			begun, stage = time.Now(), "its loop does not end"
		case strings.Contains(text, "qnet doctor: end"):
			return time.Since(begun), ""
		case begun.IsZero():
			stage = "its boot sector is not run"
		}
	}
	return 0, stage
}

// kvmRemedy is what to do about a KVM that cannot be used, for a reason of QEMU's. QEMU
// runs as the caller or as nobody, with the group of /dev/kvm.
func kvmRemedy(why string) string {
	var st unix.Stat_t
	switch err := unix.Stat("/dev/kvm", &st); {
	case err != nil:
		return "turn virtualization on in the firmware's settings; modprobe kvm_intel or kvm_amd; in a container: --device /dev/kvm"
	case strings.Contains(strings.ToLower(why), "permission denied") && (st.Gid == 0 || st.Mode&0o060 != 0o060):
		return fmt.Sprintf("chgrp kvm /dev/kvm; chmod 660 /dev/kvm (its group is %d, its mode %#o)", st.Gid, st.Mode&0o777)
	case strings.Contains(strings.ToLower(why), "permission denied"):
		return "usermod -aG kvm $USER, and log in again"
	}
	return "this host is a virtual machine without nested virtualization, most likely: turn that on, or live with TCG"
}

// remedyForLayers is for what confines a process in part.
const remedyForLayers = "boot with lsm=landlock,... or a kernel that has it; run as root for namespaces; qnet run --sandbox=required refuses to go without"

// checkConfinement asks for the layers that would confine a QEMU of the caller's, and a clerk.
func checkConfinement(ctx context.Context, h *Host) []Finding {
	return append(confinementOfQEMU(ctx, h), confinementOfClerk()...)
}

func confinementOfClerk() []Finding {
	c := keeper.ConfinementOf("doctor")
	if lacks := c.Lacks(); lacks != "" {
		return one(Warn, remedyForLayers, "a network's clerk: %s; without %s", c, lacks)
	}
	return one(Pass, "", "a network's clerk: %s", c)
}

func confinementOfQEMU(_ context.Context, h *Host) []Finding {
	binary, err := program.Find(h.Path, h.QEMU)
	if err != nil {
		return one(Unseen, "", "there is no QEMU")
	}
	uid := uint32(os.Geteuid())
	if c := vmuser.Credential(h.User, "doctor"); c != nil {
		uid = c.UID
	}
	layers, err := sandbox.Decide(sandbox.Need{Binary: binary}, uid)
	if err != nil {
		return one(Fail, "", "%s", err)
	}
	r := layers.Report()
	if len(r.Missing) > 0 {
		return one(Warn, remedyForLayers, "%s; without %s", r, r.Lacks())
	}
	return one(Pass, "", "%s", r)
}

// What a VM with its keeper needs: open files, and processes with threads.
const (
	needFiles = 256
	needPIDs  = 64
)

func checkLimits(_ context.Context, h *Host) []Finding {
	var list []Finding
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil && files.Cur < needFiles {
		list = append(list, one(Warn, "ulimit -n 1024", "%d open files at most, a VM needs %d", files.Cur, needFiles)...)
	}
	if left, limited := h.pidsLeft(); limited && left < needPIDs {
		list = append(list, one(Warn, "raise TasksMax= of the unit, or the container's --pids-limit", "%d more processes at most in this cgroup, a VM needs %d", left, needPIDs)...)
	}
	if list == nil {
		where := ""
		if name := h.container(); name != "" {
			where = ", in a container (" + name + ")"
		}
		list = one(Pass, "", "%d open files%s", files.Cur, where)
	}
	return list
}

// pidsLeft is how many more processes the caller's cgroup of version 2 may have. It
// reports false without a limit.
func (h *Host) pidsLeft() (left int, limited bool) {
	group, ok := strings.CutPrefix(h.text("proc/self/cgroup"), "0::")
	if !ok {
		return 0, false
	}
	dir := path.Join("sys/fs/cgroup", group)
	most, ok := h.number(dir + "/pids.max")
	now, found := h.number(dir + "/pids.current")
	return most - now, ok && found
}
