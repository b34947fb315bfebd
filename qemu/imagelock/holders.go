package imagelock

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/qnet-vm/qnet/internal/legible"
)

// Holder is a process that has locks on an image.
type Holder struct {
	PID     int
	Command string // such as "qemu-nbd"
	Guest   string // of a QEMU that was given a name; "" of others
}

// String returns for example `VM "web" (process 1234)` or "qemu-nbd (process 1234)".
func (h Holder) String() string {
	if h.Guest != "" {
		return fmt.Sprintf("VM %q (process %d)", h.Guest, h.PID)
	}
	return fmt.Sprintf("%s (process %d)", h.Command, h.PID)
}

// holders finds the processes that have the image locked, as far as the caller may look
// into them: root into all, others into their own. /proc/locks does not name them: locks of
// this kind belong to no process. Of each process it reads only what the kernel keeps
// (proc(5), /proc/pid/fdinfo), so that the dead server of a file that another process has
// open cannot make it wait.
func holders(f *os.File) []Holder {
	image, err := f.Stat()
	if err != nil {
		return nil
	}
	entries, _ := os.ReadDir("/proc")
	var list []Holder
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && pid != os.Getpid() && holds(pid, image) {
			list = append(list, holderOf(pid))
		}
	}
	// A supervisor of qnet that just starts its QEMU shares the lock with it.
	if slices.ContainsFunc(list, isGuest) {
		list = slices.DeleteFunc(list, func(h Holder) bool { return !isGuest(h) })
	}
	return list
}

func isGuest(h Holder) bool { return h.Guest != "" }

// holds reports whether the process has a lock on the image by one of its descriptors.
func holds(pid int, image os.FileInfo) bool {
	dir := fmt.Sprintf("/proc/%d/", pid)
	fds, _ := os.ReadDir(dir + "fdinfo")
	for _, fd := range fds {
		info, err := os.ReadFile(dir + "fdinfo/" + fd.Name())
		if err != nil || !bytes.Contains(info, []byte("OFDLCK")) {
			continue
		}
		if file, err := os.Stat(dir + "fd/" + fd.Name()); err == nil && os.SameFile(file, image) {
			return true
		}
	}
	return false
}

// holderOf describes a process by its command line and its name.
func holderOf(pid int) Holder {
	h := Holder{PID: pid, Command: "a program"}
	dir := fmt.Sprintf("/proc/%d/", pid)
	if name, err := os.ReadFile(dir + "comm"); err == nil {
		h.Command = legible.Text(strings.TrimSpace(string(name)))
	}
	line, err := os.ReadFile(dir + "cmdline")
	if err != nil {
		return h
	}
	args := strings.Split(string(line), "\x00")
	if strings.HasPrefix(filepath.Base(args[0]), "qemu-system-") || strings.HasPrefix(filepath.Base(args[0]), "qemu-kvm") {
		h.Guest = guestName(args)
	}
	return h
}

// guestName reads QEMU's option -name, which is "web" or "guest=web,debug-threads=on".
func guestName(args []string) string {
	i := slices.Index(args, "-name")
	if i < 0 || i+1 >= len(args) {
		return ""
	}
	for part := range strings.SplitSeq(args[i+1], ",") {
		if name, ok := strings.CutPrefix(part, "guest="); ok {
			return name
		}
	}
	name, _, _ := strings.Cut(args[i+1], ",")
	return name
}
