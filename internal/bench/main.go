// Command bench measures qnet beside what a user would otherwise use: the shell
// recipe of recipe.sh with raw QEMU, libvirt, QEMU's user network, passt and
// dnsmasq. The two sides of a row take turns on the same machine in the same
// minute, in network and mount namespaces of their own, and what counts is the
// ratio of each pair. See docs/performance.md.
//
//	bench [-cache DIR] [-qnet FILE] [GROUP ...]
//
// QNET_BENCH_PAIRS is how many pairs are measured, 10 if unset.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// bench is one invocation.
type bench struct {
	cache   string // the repository's .cache, with the test guest
	qnet    string // the binary measured
	wire    string // the sender and receiver, for guests too
	dir     string // for sockets, profiles, qnet's run and state directories
	pairs   int
	results []result
	talk    io.Writer
}

// groups are the rows of the table, by what they share.
var groups = []struct {
	name string
	run  func(*bench) error
}{
	{"launch", (*bench).launch},
	{"traffic", (*bench).traffic},
	{"queues", (*bench).queues},
	{"cpu", (*bench).cpu},
	{"dhcp", (*bench).dhcp},
	{"dns", (*bench).dns},
	{"scale", (*bench).scale},
	{"start", (*bench).start},
	{"plan", (*bench).plan},
	{"libvirt", (*bench).libvirt}, // last: it changes /dev
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == "play" {
		if err := play(os.Args[2:]); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", os.Args[2], err)
			os.Exit(1)
		}
		return
	}
	b := &bench{talk: os.Stderr}
	flag.StringVar(&b.cache, "cache", ".cache", "`DIR` of the test guest")
	flag.StringVar(&b.qnet, "qnet", "bin/qnet", "`FILE` to measure")
	flag.Parse()
	switch os.Getenv(insideEnv) {
	case "":
		os.Exit(outside())
	case "first":
		os.Exit(first())
	}
	if err := b.run(flag.Args()); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func (b *bench) run(only []string) (err error) {
	if b.pairs, err = strconv.Atoi(cmp.Or(os.Getenv("QNET_BENCH_PAIRS"), "10")); err != nil || b.pairs < 1 {
		return fmt.Errorf("QNET_BENCH_PAIRS=%s is no number of pairs", os.Getenv("QNET_BENCH_PAIRS"))
	}
	for _, path := range []*string{&b.cache, &b.qnet} {
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	b.wire = filepath.Join(b.cache, "bench", "wire")
	b.dir = os.Getenv(dirEnv)
	if err := errors.Join(b.makeInitrd(), os.WriteFile(filepath.Join(b.dir, "recipe.sh"), recipe, 0o755), b.enterLab()); err != nil {
		return err
	}
	var errs []error
	begin := time.Now()
	for _, g := range groups {
		if len(only) > 0 && !slices.Contains(only, g.name) {
			continue
		}
		fmt.Fprintf(b.talk, "%5.0f s  %s\n", time.Since(begin).Seconds(), g.name)
		if err := g.run(b); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", g.name, err))
			fmt.Fprintf(b.talk, "%s: %v\n", g.name, err)
		}
	}
	fmt.Fprintf(b.talk, "%5.0f s  done\n", time.Since(begin).Seconds())
	b.print(os.Stdout, strings.Join(only, " "))
	return errors.Join(errs...)
}
