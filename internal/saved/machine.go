package saved

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/qemu/machine"
)

// Machine is the machine that a state belongs to. QEMU loads it into an equal one only.
type Machine struct {
	QEMU    string   `json:"qemu"`               // version, such as "7.2.22"
	Type    string   `json:"type"`               // with its version, such as "pc-q35-7.2"; "q35" is the newest one
	Accel   string   `json:"accel"`              // "kvm" or "tcg"
	HostCPU string   `json:"host_cpu,omitempty"` // the host's model, which the guest sees under KVM
	Args    []string `json:"args"`               // QEMU's, with files numbered as they were
}

// Asker is the part of a QMP connection that Of needs.
type Asker interface {
	// Execute runs a command and decodes what it returns.
	Execute(ctx context.Context, name string, args, result any) error
}

// Of returns the machine of a QEMU of that version, which was started with the config.
func Of(ctx context.Context, qemu Asker, version string, c machine.Config) (Machine, error) {
	m := Machine{QEMU: version, Accel: c.Accel, HostCPU: HostCPU(c.Accel)}
	kind := ""
	if err := qemu.Execute(ctx, "qom-get", map[string]string{"path": "/machine", "property": "type"}, &kind); err != nil {
		return m, fmt.Errorf("ask QEMU for its machine: %w", err)
	}
	m.Type = strings.TrimSuffix(kind, "-machine")
	c.Machine = m.Type
	args, err := Arguments(c)
	m.Args = args
	return m, err
}

// Anyone returns the config without what is the VM's own: its name, its MAC addresses, and on
// what its first disk, which is the image's, rests. Two VMs that are equal so can go on from one
// state.
func Anyone(c machine.Config) machine.Config {
	c.Name = "anyone"
	c.NICs = slices.Clone(c.NICs)
	for i := range c.NICs {
		c.NICs[i].MAC = net.HardwareAddr{0x52, 0x54, 0, 0, 0, byte(i)}
	}
	c.Disks = slices.Clone(c.Disks)
	if len(c.Disks) > 0 {
		c.Disks[0].Backing, c.Disks[0].Below = nil, nil
	}
	return c
}

// Arguments returns what machine.Command makes of a config.
func Arguments(c machine.Config) ([]string, error) {
	c.Incoming = false
	spec, err := machine.Command(c, nil, nil)
	return spec.Args, err
}

// HostCPU returns the model of the host's CPU where the guest sees it, under KVM.
func HostCPU(accel string) string { return hostCPU(accel, "/proc/cpuinfo") }

func hostCPU(accel, cpuinfo string) string {
	f, err := os.Open(cpuinfo)
	if accel != machine.AccelKVM || err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, _ := strings.Cut(lines.Text(), ":"); strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Differs returns why a QEMU started with the config could not go on from the state, "" if
// it can. The config is that of Machine.Config.
func (m Machine) Differs(c machine.Config) (why string, err error) {
	if host := HostCPU(m.Accel); host != m.HostCPU {
		return fmt.Sprintf("the host's CPU is %q, and was %q", host, m.HostCPU), nil
	}
	args, err := Arguments(c)
	if err != nil || slices.Equal(args, m.Args) {
		return "", err
	}
	before, now := only(m.Args, args), only(args, m.Args)
	switch {
	case len(before) == 0:
		return "its machine has in addition: " + strings.Join(now, " "), nil
	case len(now) == 0:
		return "its machine no longer has: " + strings.Join(before, " "), nil
	}
	return fmt.Sprintf("its machine has %s in place of %s", strings.Join(now, " "), strings.Join(before, " ")), nil
}

// only returns the first arguments of a list that another has not, as many as a person reads.
func only(list, other []string) []string {
	const most = 2
	var result []string
	for _, arg := range list {
		if !slices.Contains(other, arg) && len(result) < most {
			result = append(result, arg)
		}
	}
	return result
}

// Config returns the config of the same machine for a QEMU that loads the state.
func (m Machine) Config(c machine.Config) machine.Config {
	if m.Accel == machine.AccelTCG {
		c = machine.UnderTCG(c)
	}
	c.Machine, c.Accel, c.Incoming = m.Type, m.Accel, true
	return c
}

// release returns the part of a version that decides whether a state can be loaded: "7.2" of
// "7.2.22". What follows are corrections.
func release(version string) string {
	parts := strings.SplitN(version, ".", 3)
	return strings.Join(parts[:min(len(parts), 2)], ".")
}
