// How much CPU time a container may use does not matter to a launcher, and to find out takes each
// of its processes some reads of /proc and /sys.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command qnet launches VMs with networking, in place of qemu-system-* and the
// scripts around it.
package main

import (
	"context"
	"os"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/cli"
	"github.com/qnet-vm/qnet/cli/call"
)

func main() {
	// Whatever the caller left open must not reach QEMU or the keeper; Go closes
	// only its own files at exec.
	unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC) //nolint:errcheck // before Linux 5.11 it stays as it was
	os.Exit(cli.Main(context.Background(), os.Args[1:], call.Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv,
	}))
}
