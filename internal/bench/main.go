// Command bench measures qnet beside what a user would otherwise use: the shell
// recipe of rig/recipe.sh with raw QEMU, libvirt, QEMU's user network, passt and
// dnsmasq. The two sides of a row take turns on the same machine in the same
// minute, in namespaces of their own. The table compares the ratio of each pair with
// its bar. See docs/performance.md.
//
//	bench [-cache DIR] [-qnet FILE] [-before FILE] [GROUP ...]
//
// QNET_BENCH_PAIRS is how many pairs are measured, 10 if unset.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/qnet-vm/qnet/internal/bench/contest"
	"github.com/qnet-vm/qnet/internal/bench/rig"
	"github.com/qnet-vm/qnet/internal/bench/role"
)

// bench is one invocation.
type bench struct {
	*rig.Rig
	contest.Table
	earlier string // the build that group before measures against, "" for none
}

// pairsEnv is the variable that says how many pairs are measured.
const pairsEnv = "QNET_BENCH_PAIRS"

// groups are the rows of the table, by what they share.
var groups = []struct {
	name string
	run  func(*bench) error
}{
	{"launch", (*bench).launch},
	{"layers", (*bench).layers},
	{"traffic", (*bench).traffic},
	{"forwards", (*bench).forwards},
	{"queues", (*bench).queues},
	{"cpu", (*bench).cpu},
	{"dhcp", (*bench).dhcp},
	{"dns", (*bench).dns},
	{"scale", (*bench).scale},
	{"states", (*bench).states},
	{"warm", (*bench).warm},
	{"shares", (*bench).shares},
	{"start", (*bench).start},
	{"plan", (*bench).plan},
	{"churn", (*bench).churn},
	{"before", (*bench).before},
	{"libvirt", (*bench).libvirt}, // last: it changes /dev
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == role.Verb {
		if err := role.Play(os.Args[2:]); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", os.Args[2], err)
			os.Exit(1)
		}
		return
	}
	cache := flag.String("cache", ".cache", "`DIR` of the test guest")
	qnet := flag.String("qnet", "bin/qnet", "`FILE` to measure")
	earlier := flag.String("before", "", "`FILE` of an earlier build, for the group before")
	flag.Parse()
	inside, code := rig.Enter()
	if !inside {
		os.Exit(code)
	}
	if err := run(*cache, *qnet, *earlier, flag.Args()); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// run measures some groups, or all of them, and prints the table.
func run(cache, qnet, earlier string, only []string) error {
	pairs, err := strconv.Atoi(cmp.Or(os.Getenv(pairsEnv), "10"))
	if err != nil || pairs < 1 {
		return fmt.Errorf("%s=%s is not a number of pairs", pairsEnv, os.Getenv(pairsEnv))
	}
	if earlier != "" {
		if earlier, err = filepath.Abs(earlier); err != nil {
			return err
		}
	}
	r, err := rig.New(cache, qnet)
	if err != nil {
		return err
	}
	b := &bench{r, contest.Table{Pairs: pairs, Talk: os.Stderr}, earlier}
	var errs []error
	begin := time.Now()
	for _, g := range groups {
		if len(only) > 0 && !slices.Contains(only, g.name) || g.name == "before" && earlier == "" {
			continue
		}
		fmt.Fprintf(b.Talk, "%5.0f s  %s\n", time.Since(begin).Seconds(), g.name)
		if err := g.run(b); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", g.name, err))
			fmt.Fprintf(b.Talk, "%s: %v\n", g.name, err)
		}
	}
	fmt.Fprintf(b.Talk, "%5.0f s  done\n", time.Since(begin).Seconds())
	b.Print(os.Stdout, strings.Join(only, " "))
	return errors.Join(errs...)
}

// ms is a duration in the table's unit.
func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
