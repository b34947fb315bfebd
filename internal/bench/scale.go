package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// pss is the proportional memory of processes in MB (proc(5), smaps_rollup).
func pss(pids ...int) (float64, error) {
	total := 0
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(b)) {
			if words := strings.Fields(line); words[0] == "Pss:" {
				kib, err := strconv.Atoi(words[1])
				if err != nil {
					return 0, err
				}
				total += kib
			}
		}
	}
	return float64(total) / 1024, nil
}

// running finds the processes of this namespace whose arguments hold the words.
func running(words ...string) []int {
	own, _ := os.Readlink("/proc/self/ns/net")
	var pids []int
	list, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range list {
		raw, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if ns, _ := os.Readlink(filepath.Join(dir, "ns/net")); err != nil || ns != own {
			continue
		}
		args := strings.ReplaceAll(string(raw), "\x00", " ")
		all := true
		for _, w := range words {
			all = all && strings.Contains(args, w)
		}
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && all {
			pids = append(pids, pid)
		}
	}
	return pids
}

// few is up to how many VMs qnet takes less memory than libvirt.
const few = 5

// memoryBesideLibvirt compares all processes but QEMU's.
func (b *bench) memoryBesideLibvirt(d daemons) error {
	bios, err := b.haltingBIOS()
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
	pids := running("/usr/sbin/dnsmasq")
	for _, one := range d {
		pids = append(pids, one.Process.Pid)
	}
	theirs, err := pss(pids...)
	if err != nil {
		return err
	}
	vms, err := b.halted(few)
	defer stopAll(vms)
	if err != nil {
		return err
	}
	mine, err := pss(running(b.qnet, "run")...)
	if err == nil {
		var keeper float64
		keeper, err = pss(running("keeper", "--run-dir", b.dir)...)
		mine += keeper
	}
	b.add(result{
		row:  row{what: fmt.Sprintf("memory of %d VMs without QEMU's own", few), against: "libvirtd, virtlogd, dnsmasq", unit: "MB", most: 1},
		qnet: []float64{mine}, other: []float64{theirs},
	})
	return err
}

// halted starts VMs of one network that do nothing.
func (b *bench) halted(n int) ([]*vm, error) {
	var list []*vm
	for i := range n {
		v, err := b.qnetVM(spec{name: fmt.Sprintf("h%d", i), mode: "nat", halted: true})
		if err != nil {
			return list, err
		}
		list = append(list, v)
	}
	return list, nil
}

// many is how many VMs a launch shall not mind.
const many = 200

// scale measures the last of many VMs against the first, beside it QEMU alone, which
// has the same machine to share, and memory on the way.
func (b *bench) scale() error {
	last := result{row: row{what: fmt.Sprintf("launch of VM %d of a network", many), against: "the first", unit: "ms", most: 1.2}}
	raw := result{row: row{what: fmt.Sprintf("launch of QEMU alone beside %d VMs", many-1), against: "without them", unit: "ms"}}
	pairs := func(qnet, alone *[]float64) error {
		for range b.pairs {
			if err := b.launchOnce(b.qnetVM, "last", qnet); err != nil {
				return err
			}
			if err := b.launchOnce(b.rawVM, "raw0", alone); err != nil {
				return err
			}
		}
		return nil
	}
	if err := pairs(&last.other, &raw.other); err != nil {
		return err
	}
	var vms []*vm
	defer func() { stopAll(vms) }()
	memory := map[int]float64{}
	for len(vms) < many-1 {
		v, err := b.qnetVM(spec{name: fmt.Sprintf("h%d", len(vms)), mode: "nat", halted: true})
		if err != nil {
			return err
		}
		vms = append(vms, v)
		if err := b.weigh(len(vms), memory); err != nil {
			return err
		}
	}
	if err := pairs(&last.qnet, &raw.qnet); err != nil {
		return err
	}
	b.add(last)
	b.add(raw)
	grown := (memory[100] - memory[10]) / 90
	b.add(result{row: row{what: "memory of one more VM without QEMU's own, from 10 to 100 VMs", unit: "MB", limit: 6}, qnet: []float64{grown}})
	return nil
}

// launchOnce starts a VM that does nothing, ends it, and keeps the time to its
// running vCPUs.
func (b *bench) launchOnce(start func(spec) (*vm, error), name string, took *[]float64) error {
	v, err := start(spec{name: name, mode: "nat", halted: true})
	if err != nil {
		return err
	}
	*took = append(*took, ms(v.running))
	_, _, err = v.kill()
	return err
}

// weigh measures the memory of qnet's processes at some numbers of VMs.
func (b *bench) weigh(n int, memory map[int]float64) error {
	if n != 1 && n != 10 && n != 100 {
		return nil
	}
	supervisors, err := pss(running(b.qnet, "run")...)
	if err != nil {
		return err
	}
	keeper, err := pss(running("keeper", "--run-dir", b.dir)...)
	if err != nil {
		return err
	}
	memory[n] = supervisors + keeper
	noun := "VMs"
	if n == 1 {
		noun = "VM"
	}
	b.add(result{row: row{what: fmt.Sprintf("memory of a supervisor, %d %s", n, noun), unit: "MB", limit: 8}, qnet: []float64{supervisors / float64(n)}})
	b.add(result{row: row{what: fmt.Sprintf("memory of the keeper, %d %s", n, noun), unit: "MB", limit: 12}, qnet: []float64{keeper}})
	b.add(result{row: row{what: fmt.Sprintf("memory of both in all, %d %s", n, noun), unit: "MB"}, qnet: []float64{memory[n]}})
	return nil
}

// start measures the binary.
func (b *bench) start() error {
	info, err := os.Stat(b.qnet)
	if err != nil {
		return err
	}
	b.add(result{row: row{what: "binary, static", unit: "MB", limit: 15}, qnet: []float64{float64(info.Size()) / 1e6}})
	return b.contest([]row{{what: "qnet --help", unit: "ms", limit: 10}}, timed(b.qnet, "--help"), nil)
}

func timed(argv ...string) side {
	return func() ([]float64, error) {
		took, err := run(argv...)
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
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	profile := filepath.Join(b.dir, "plan.toml")
	if err := os.WriteFile(profile, []byte("[[nic]]\nmode = \"nat\"\n"), 0o644); err != nil {
		return err
	}
	err := sh("ip netns add big; ip -n big link set lo up; ip -n big -batch " + b.dir + "/links; ip -n big -batch " + b.dir + "/routes")
	if err != nil {
		return err
	}
	defer exec.Command("ip", "netns", "del", "big").Run()
	return b.contest([]row{{what: "qnet plan, 1,000 links and 10,000 routes on the host", unit: "ms", limit: 100}},
		timed("ip", "netns", "exec", "big", b.qnet, "plan", profile), nil)
}
