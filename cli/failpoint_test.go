package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/internal/lab"
)

// What may happen at a failpoint.
const (
	fail           = "error"
	panics         = "panic"
	killKeeper     = "kill-keeper"
	killSupervisor = "kill-supervisor"
	killQEMU       = "kill-qemu"
	killSteward    = "kill-steward"
	killClerk      = "kill-clerk"
	killAll        = "kill-all"
)

// errFailpoint is the error that a process gets at one.
var errFailpoint = errors.New("failpoint")

// armFailpoints makes this process, one of qnet's under test, obey the file
// "failpoint" beside the run directory: "record" lists the points it comes to in
// the file "points"; "POINT ACTION" acts there, once in all processes.
func armFailpoints(args []string) {
	run := os.Getenv("QNET_RUN_DIR")
	for i, a := range args {
		if a == "--run-dir" && i+1 < len(args) {
			run = args[i+1]
		}
	}
	role := "supervisor"
	switch last := args[len(args)-1]; {
	case last == "--steward", last == "--clerk":
		lab.ObeyOrder(numbered(last[len("--"):]), itself)
		return
	case args[0] == "keeper":
		role = "keeper"
	}
	dir := filepath.Dir(run)
	order, _ := os.ReadFile(filepath.Join(dir, "failpoint"))
	if len(order) == 0 {
		return
	}
	if role == "supervisor" {
		err := lab.OrderClerks(string(order), func(what string) {
			if point, ok := strings.CutPrefix(what, "record "); ok {
				record(dir, point) // a missing point fails the test
				return
			}
			removed(filepath.Join(dir, "failpoint"))
			if what != fail && what != panics { // these are the process's own
				act(what, run)
			}
		})
		if err != nil {
			panic(err)
		}
	}
	number := numbered(role)
	failpoint.Set(func(name string) error {
		point := number(name)
		if string(order) == "record" {
			return record(dir, point)
		}
		at, action, _ := strings.Cut(string(order), " ")
		// The process that removes the file acts. A keeper that replaces a killed keeper does not.
		if at == point && removed(filepath.Join(dir, "failpoint")) {
			if role == "keeper" && action != fail && action != panics {
				lab.Ask(action) // it may end no process of another user
			}
			return act(action, run)
		}
		return nil
	})
}

// numbered names the points of a process: each is another one the next time.
func numbered(role string) func(name string) (point string) {
	var mu sync.Mutex
	count := map[string]int{}
	return func(name string) string {
		mu.Lock()
		defer mu.Unlock()
		count[name]++
		return strings.ReplaceAll(fmt.Sprintf("%s:%s#%d", role, name, count[name]), " ", "_")
	}
}

func record(dir, point string) error {
	f, err := os.OpenFile(filepath.Join(dir, "points"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		return err
	}
	fmt.Fprintln(f, point)
	return f.Close()
}

func removed(path string) bool { return os.Remove(path) == nil }

// itself is the part of an action that a process does to itself.
func itself(action string) error {
	switch action {
	case fail:
		return errFailpoint
	case panics:
		panic("failpoint")
	}
	return nil
}

func act(action, run string) error {
	if action == fail || action == panics {
		return itself(action)
	}
	me := os.Getpid()
	suicide := false
	for _, pid := range victims(action, run) {
		if pid == me {
			suicide = true
			continue
		}
		syscall.Kill(pid, syscall.SIGKILL)
	}
	if suicide {
		syscall.Kill(me, syscall.SIGKILL)
		select {}
	}
	return nil
}

// victims finds the processes of this run directory, and QEMU, in this network
// namespace.
func victims(action, run string) []int {
	here, _ := os.Readlink("/proc/self/ns/net")
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var pids []int
	for _, dir := range dirs {
		if ns, _ := os.Readlink(dir + "/ns/net"); ns != here {
			continue
		}
		cmdline, _ := os.ReadFile(dir + "/cmdline")
		env, _ := os.ReadFile(dir + "/environ")
		words := string(bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '}))
		kind := ""
		switch {
		case strings.Contains(words, "guest="):
			kind = killQEMU
		case strings.Contains(words, " keeper --run-dir "+run):
			kind = killKeeper
		case strings.HasSuffix(words, " --steward "):
			kind = killSteward
		case strings.HasSuffix(words, " --clerk "):
			kind = killClerk
		case strings.HasPrefix(words, "/proc/self/exe ") && strings.Contains(words, " run ") && bytes.Contains(env, []byte("QNET_RUN_DIR="+run)):
			kind = killSupervisor
		}
		if kind != "" && (kind == action || action == killAll) {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			pids = append(pids, pid)
		}
	}
	return pids
}
