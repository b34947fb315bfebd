package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/qnet-vm/qnet/internal/bench/contest"
	"github.com/qnet-vm/qnet/internal/bench/rig"
)

// few is the number of VMs up to which qnet needs less memory than libvirt.
const few = 5

// memoryBesideLibvirt compares all processes but QEMU's.
func (b *bench) memoryBesideLibvirt(d daemons) error {
	bios, err := b.HaltingBIOS()
	if err != nil {
		return err
	}
	if err := virsh("net-start", "bench"); err != nil {
		return err
	}
	defer virsh("net-destroy", "bench")
	for i := range few {
		name := fmt.Sprintf("few%d", i)
		if err := b.define(name, bios); err != nil {
			return err
		}
		if err := virsh("start", name); err != nil {
			return err
		}
		defer virsh("destroy", name)
	}
	pids := rig.Processes("/usr/sbin/dnsmasq")
	for _, one := range d {
		pids = append(pids, one.Process.Pid)
	}
	theirs, err := rig.PSS(pids...)
	if err != nil {
		return err
	}
	vms, err := b.halted(few)
	defer rig.KillAll(vms)
	if err != nil {
		return err
	}
	mine, err := rig.PSS(rig.Processes(b.Qnet, "run")...)
	if err == nil {
		var keeper float64
		keeper, err = rig.PSS(rig.Processes("keeper", "--run-dir", b.Dir)...)
		mine += keeper
	}
	b.Add(contest.Result{
		Row:  contest.Row{What: fmt.Sprintf("memory of %d VMs without QEMU's own", few), Against: "libvirtd, virtlogd, dnsmasq", Unit: "MB", Most: 1},
		Qnet: []float64{mine}, Other: []float64{theirs},
	})
	return err
}

// halted starts VMs of one network that do nothing.
func (b *bench) halted(n int) ([]*rig.VM, error) {
	var list []*rig.VM
	for i := range n {
		v, err := b.QnetVM(rig.Spec{Name: fmt.Sprintf("h%d", i), Mode: "nat", Halted: true})
		if err != nil {
			return list, err
		}
		list = append(list, v)
	}
	return list, nil
}

// many is the number of VMs that must not slow a launch down.
const many = 200

// scale measures the last of many VMs against the first, and memory on the way. QEMU
// alone, measured beside both, shows what the other VMs cost any process.
func (b *bench) scale() error {
	last := contest.Result{Row: contest.Row{What: fmt.Sprintf("launch of VM %d of a network", many), Against: "the first", Unit: "ms", Most: 1.2}}
	raw := contest.Result{Row: contest.Row{What: fmt.Sprintf("launch of QEMU alone beside %d VMs", many-1), Against: "without them", Unit: "ms"}}
	pairs := func(qnet, alone *[]float64) error {
		for range b.Pairs {
			if err := b.launchOnce(b.QnetVM, "last", qnet); err != nil {
				return err
			}
			if err := b.launchOnce(b.RawVM, "raw0", alone); err != nil {
				return err
			}
		}
		return nil
	}
	if err := pairs(&last.Other, &raw.Other); err != nil {
		return err
	}
	var vms []*rig.VM
	defer func() { rig.KillAll(vms) }()
	memory := map[int]float64{}
	for len(vms) < many-1 {
		v, err := b.QnetVM(rig.Spec{Name: fmt.Sprintf("h%d", len(vms)), Mode: "nat", Halted: true})
		if err != nil {
			return err
		}
		vms = append(vms, v)
		if err := b.weigh(len(vms), memory); err != nil {
			return err
		}
	}
	if err := pairs(&last.Qnet, &raw.Qnet); err != nil {
		return err
	}
	b.Add(last)
	b.Add(raw)
	grown := (memory[100] - memory[10]) / 90
	b.Add(contest.Result{Row: contest.Row{What: "memory of one more VM without QEMU's own, from 10 to 100 VMs", Unit: "MB", Limit: 6}, Qnet: []float64{grown}})
	return nil
}

// launchOnce starts a VM that does nothing, kills it, and appends the time to its
// running vCPUs to took.
func (b *bench) launchOnce(start func(rig.Spec) (*rig.VM, error), name string, took *[]float64) error {
	v, err := start(rig.Spec{Name: name, Mode: "nat", Halted: true})
	if err != nil {
		return err
	}
	*took = append(*took, ms(v.Running))
	_, _, err = v.Kill()
	return err
}

// weigh measures the memory of qnet's processes at some numbers of VMs.
func (b *bench) weigh(n int, memory map[int]float64) error {
	if n != 1 && n != 10 && n != 100 {
		return nil
	}
	supervisors, err := rig.PSS(rig.Processes(b.Qnet, "run")...)
	if err != nil {
		return err
	}
	keeper, err := rig.PSS(rig.Processes("keeper", "--run-dir", b.Dir)...)
	if err != nil {
		return err
	}
	memory[n] = supervisors + keeper
	noun := "VMs"
	if n == 1 {
		noun = "VM"
	}
	b.Add(contest.Result{Row: contest.Row{What: fmt.Sprintf("memory of a supervisor, %d %s", n, noun), Unit: "MB", Limit: 8}, Qnet: []float64{supervisors / float64(n)}})
	b.Add(contest.Result{Row: contest.Row{What: fmt.Sprintf("memory of the keeper, %d %s", n, noun), Unit: "MB", Limit: 12}, Qnet: []float64{keeper}})
	b.Add(contest.Result{Row: contest.Row{What: fmt.Sprintf("memory of both in all, %d %s", n, noun), Unit: "MB"}, Qnet: []float64{memory[n]}})
	return nil
}

// start measures the binary.
func (b *bench) start() error {
	info, err := os.Stat(b.Qnet)
	if err != nil {
		return err
	}
	b.Add(contest.Result{Row: contest.Row{What: "binary, static", Unit: "MB", Limit: 15}, Qnet: []float64{float64(info.Size()) / 1e6}})
	return b.Contest([]contest.Row{{What: "qnet --help", Unit: "ms", Limit: 10}}, timed(b.Qnet, "--help"), nil)
}

func timed(argv ...string) contest.Side {
	return func() ([]float64, error) {
		took, err := rig.Run(argv...)
		return []float64{ms(took)}, err
	}
}

// plan measures a plan on a host with many links and routes.
func (b *bench) plan() error {
	var links, routes strings.Builder
	for i := range 500 { // pairs
		fmt.Fprintf(&links, "link add p%d type veth peer name q%d\n", i, i)
	}
	for i := range 10000 {
		fmt.Fprintf(&routes, "route add 100.%d.%d.0/24 dev lo\n", i/256, i%256)
	}
	for name, text := range map[string]string{"links": links.String(), "routes": routes.String()} {
		if err := os.WriteFile(filepath.Join(b.Dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	profile := filepath.Join(b.Dir, "plan.toml")
	if err := os.WriteFile(profile, []byte("[[nic]]\nmode = \"nat\"\n"), 0o644); err != nil {
		return err
	}
	err := rig.Sh("ip netns add big; ip -n big link set lo up; ip -n big -batch " + b.Dir + "/links; ip -n big -batch " + b.Dir + "/routes")
	if err != nil {
		return err
	}
	defer exec.Command("ip", "netns", "del", "big").Run()
	return b.Contest([]contest.Row{{What: "qnet plan, 1,000 links and 10,000 routes on the host", Unit: "ms", Limit: 100}},
		timed("ip", "netns", "exec", "big", b.Qnet, "plan", profile), nil)
}
