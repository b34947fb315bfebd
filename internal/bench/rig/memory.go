package rig

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// PSS is the proportional memory of processes in MB (proc(5), smaps_rollup).
func PSS(pids ...int) (float64, error) {
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

// Processes finds the processes of this network namespace whose arguments hold the words.
func Processes(words ...string) []int {
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
