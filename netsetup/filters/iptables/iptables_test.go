package iptables

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/nft"
)

// install makes a shell script a program in a directory of its own.
func install(t *testing.T, name, script string) dirs {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dirs{dir}
}

var rule = filters.AcceptRule{
	Engine: filters.IPTablesNFT, Family: nft.IP, Table: "filter", Chain: "FORWARD",
	Spec: `-i qn-dev -m comment --comment "qnet:dev" -j ACCEPT`,
}

// The program gets the words of the rule, without quotes, and a fixed environment.
func TestRun(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	list := install(t, "iptables-nft", `echo "$@" > `+out+`; echo "$LC_ALL" >> `+out)
	if err := list.run(t.Context(), rule, "-I"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if want := "-w 10 -t filter -I FORWARD -i qn-dev -m comment --comment qnet:dev -j ACCEPT\nC\n"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// An error has the command and the first line that the program printed.
func TestRunFails(t *testing.T) {
	list := install(t, "iptables-nft", "echo No chain by that name >&2; echo more >&2; exit 1")
	err := list.run(t.Context(), rule, "-D")
	const want = `run iptables-nft -w 10 -t filter -D FORWARD -i qn-dev -m comment --comment "qnet:dev" -j ACCEPT: exit status 1: No chain by that name`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	six := rule
	six.Family = nft.IP6
	if err := list.run(t.Context(), six, "-I"); !errors.Is(err, ErrNoProgram) || !strings.Contains(err.Error(), "run ip6tables-nft") {
		t.Errorf("without the program: %v", err)
	}
}

// The end of the context ends the program, which may wait for a lock.
func TestRunEnds(t *testing.T) {
	list := install(t, "iptables-nft", "exec sleep 60")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := list.run(ctx, rule, "-I"); err == nil || time.Since(began) > 10*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}

// A program is found by the name of its engine, or as what iptables is a link to.
func TestFind(t *testing.T) {
	list := install(t, "xtables-legacy-multi", "")
	dir := list[0]
	if err := os.Symlink("xtables-legacy-multi", filepath.Join(dir, "iptables")); err != nil {
		t.Fatal(err)
	}
	if got := list.find(filters.IPTablesLegacy, nft.IP); got != filepath.Join(dir, "iptables") {
		t.Errorf("by the link: %q", got)
	}
	if got := list.find(filters.IPTablesNFT, nft.IP); got != "" {
		t.Errorf("the other engine: %q", got)
	}
	if got := list.find(filters.IPTablesLegacy, nft.IP6); got != "" {
		t.Errorf("the other family: %q", got)
	}
}

// Programs are found for the iptables tables alone, and looked for by their own engine.
func TestPrograms(t *testing.T) {
	tables := []filters.Table{
		{Engine: filters.NFTables, Family: nft.INet, Name: "filter"},
		{Engine: filters.IPTablesNFT, Family: nft.IP, Name: "filter"},
		{Engine: filters.IPTablesNFT, Family: nft.IP, Name: "nat"},
	}
	list := install(t, "iptables-nft", "")
	got := list.programs(tables)
	if len(got) != 1 || len(got[filters.IPTablesNFT]) != 1 || got[filters.IPTablesNFT][nft.IP] != filepath.Join(list[0], "iptables-nft") {
		t.Errorf("got %v", got)
	}
	if got := (dirs{t.TempDir()}).programs(tables); got != nil {
		t.Errorf("none is installed: %v", got)
	}
}
