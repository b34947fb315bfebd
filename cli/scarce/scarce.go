// Package scarce tells what to do where the system has run out of something: space, files,
// memory, processes. Such errors may come from whatever qnet was about to do, and from QEMU.
package scarce

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/qemu"
)

// Kind is an error of the system with what to do about it.
type Kind struct {
	Errno error
	Hint  string
}

// Kinds are all kinds. The first that applies counts.
var Kinds = []Kind{
	{unix.ENOSPC, "no space is left there: df and df -i show where; --run-dir and --state-dir choose other directories"},
	{unix.EDQUOT, "a disk quota is used up: quota shows it; --run-dir and --state-dir choose other directories"},
	{unix.EROFS, "the file system is read-only: --run-dir and --state-dir (QNET_RUN_DIR, QNET_STATE_DIR) choose other directories"},
	{unix.ENOMEM, "the host, or the cgroup of this process (MemoryMax=, --memory), has no memory left"},
	{unix.EMFILE, "this process may not open more files: raise its limit, with ulimit -n or LimitNOFILE="},
	{unix.ENFILE, "the whole host may not open more files: raise sysctl fs.file-max"},
	{unix.EAGAIN, "no more processes may be started here: raise ulimit -u, TasksMax= of the unit, or the container's --pids-limit"},
}

// leastFiles is how many files a process of qnet needs to say what is wrong: the three that it
// got, those with which the Go runtime waits for files, and one to read.
const leastFiles = 7

// CheckFiles returns an error that wraps EMFILE where the process may open so few files that the Go
// runtime could not even wait for one, and would end with its own stack.
func CheckFiles() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur >= leastFiles {
		return nil //nolint:nilerr // a filter forbids the question
	}
	return fmt.Errorf("begin, with %d files: %w", limit.Cur, unix.EMFILE)
}

// Hint returns what to do about an error, "" if nothing has run out. QEMU has no other way to
// say so than by the words of strerror(3) on its stderr.
func Hint(err error) string {
	words := ""
	if exit, ok := errors.AsType[*qemu.ExitError](err); ok {
		words = strings.ToLower(exit.Status.Stderr)
	}
	for _, k := range Kinds {
		if errors.Is(err, k.Errno) || strings.Contains(words, k.Errno.Error()) {
			return k.Hint
		}
	}
	return ""
}
