package main

import (
	"fmt"
	"os"
	"strings"
)

// launch measures start and end of a VM against the recipe, in each mode, as the
// first and as the second of its network.
func (b *bench) launch() error {
	for _, mode := range []string{"private", "host-only", "nat", "bridge"} {
		if err := b.cycle(mode, true); err != nil {
			return err
		}
	}
	if err := b.contest([]row{{what: "the kernel's part of any teardown: ip link del of a bare bridge", unit: "ms"}}, delBridge, nil); err != nil {
		return err
	}
	qnet, err := b.qnetVM(spec{name: "base1", mode: "nat", halted: true})
	if err != nil {
		return err
	}
	recipe, err := b.recipeVM(spec{name: "base2", mode: "nat", halted: true, first: true})
	if err != nil {
		return err
	}
	if err := b.cycle("nat", false); err != nil {
		return err
	}
	if _, _, err := recipe.kill(); err != nil {
		return err
	}
	_, _, err = qnet.kill()
	return err
}

func delBridge() ([]float64, error) {
	if err := sh("ip link add bare type bridge; ip link set bare up"); err != nil {
		return nil, err
	}
	took, err := run("ip", "link", "del", "bare")
	return []float64{ms(took)}, err
}

func (b *bench) cycle(mode string, first bool) error {
	which := "first VM of a " + mode + " network"
	if !first {
		which = "second VM of a " + mode + " network"
	}
	rows := []row{
		{what: "launch, " + which, against: "recipe and raw QEMU", unit: "ms", most: 1},
		{what: "teardown from QEMU's exit, " + which, against: "recipe", unit: "ms", most: 0.5},
		{what: "the same from the signal that ends QEMU", against: "recipe", unit: "ms"},
	}
	around := func(start func(spec) (*vm, error), s spec) side {
		return func() ([]float64, error) {
			before := links()
			v, err := start(s)
			if err != nil {
				return nil, err
			}
			fromSignal, fromExit, err := v.kill()
			if after := links(); err == nil && after != before {
				err = fmt.Errorf("links were %s and are %s", before, after)
			}
			return []float64{ms(v.running), ms(fromExit), ms(fromSignal)}, err
		}
	}
	return b.contest(rows,
		around(b.qnetVM, spec{name: "va", mode: mode, first: first}),
		around(b.recipeVM, spec{name: "vb", mode: mode, first: first}))
}

// links are the host's, by name.
func links() string {
	entries, _ := os.ReadDir("/sys/class/net")
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}
