package lab

import (
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/failpoint"
)

// Stewards and clerks can open no file. What they are to do at failpoints, and what they tell
// of it, goes by descriptors that they inherit.
const (
	fdOrder = 100 + iota // a file in memory with the order
	fdSays               // what they say, as messages; and one message for the process that acts
	fdActed              // a pipe that ends when what it asked for is done
)

// OrderClerks makes the stewards and clerks that this process starts obey the order: at each
// point as ObeyOrder says. said hears, one after another, what they say.
func OrderClerks(order string, said func(what string)) error {
	memory, err := unix.MemfdCreate("order", 0)
	if err != nil {
		return err
	}
	if _, err := unix.Write(memory, []byte(order)); err != nil {
		return err
	}
	var acted [2]int
	if err := unix.Pipe2(acted[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(ends[1], true); err != nil {
		return err
	}
	for as, fd := range map[int]int{fdOrder: memory, fdSays: ends[1], fdActed: acted[0]} {
		if err := unix.Dup3(fd, as, 0); err != nil {
			return err
		}
	}
	if _, err := unix.Write(ends[0], []byte("act")); err != nil {
		return err
	}
	go func() {
		for b := make([]byte, 256); ; {
			n, err := unix.Read(ends[0], b)
			if err != nil || n == 0 {
				return
			}
			what := string(b[:n])
			said(what)
			if !strings.HasPrefix(what, "record ") {
				unix.Close(acted[1])
			}
		}
	}()
	return nil
}

// ObeyOrder makes this process, a steward or a clerk, obey what OrderClerks ordered: "record"
// says "record POINT" at each; with "POINT ACTION" one of the processes says ACTION at the point,
// waits until that is done, and then does the part of act that is its own.
func ObeyOrder(named func(point string) string, act func(action string) error) {
	order, err := io.ReadAll(io.NewSectionReader(os.NewFile(fdOrder, "order"), 0, 1<<10))
	if err != nil {
		return // nobody ordered anything
	}
	at, action, _ := strings.Cut(string(order), " ")
	failpoint.Set(func(name string) error {
		point := named(name)
		if at == "record" {
			_, err := unix.Write(fdSays, []byte("record "+point))
			return err
		}
		b := make([]byte, 16)
		if point != at {
			return nil
		}
		if n, _ := unix.Read(fdSays, b); n <= 0 {
			return nil // another process has acted
		}
		Ask(action)
		return act(action)
	})
}

// Ask says what the process that ordered is to do, and waits until that is done or that process
// is dead.
func Ask(what string) {
	if _, err := unix.Write(fdSays, []byte(what)); err == nil {
		unix.Read(fdActed, make([]byte, 1)) // its end is what counts
	}
}
