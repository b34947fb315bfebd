// Command mkguest makes the guest that the demo, the examples and the tests boot.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/qnet-vm/qnet/internal/lab/guest"
)

func main() {
	dir := flag.String("dir", ".cache/guest", "where vmlinuz and initrd.gz go")
	whole := flag.Bool("whole", false, "make vmlinuz and first.gz: a kernel with all drivers, for the Debian disk")
	flag.Parse()
	build := guest.Build
	if *whole {
		build = guest.BuildWhole
	}
	if err := build(*dir); err != nil {
		fmt.Fprintln(os.Stderr, "mkguest:", err)
		os.Exit(1)
	}
}
