package main

import "fmt"

// queues measures what a second queue brings, of which qnet makes none without vhost.
func (b *bench) queues() error {
	return b.twins("two queues", "one queue, 2 vCPUs, both hand-made taps", spec{cpus: 2, queues: 2}, spec{cpus: 2})
}

// cpu measures what it brings that a guest under TCG does not copy byte by byte.
func (b *bench) cpu() error {
	return b.twins("CPU as qnet gives it", "-cpu max, both hand-made taps", spec{}, spec{extra: []string{"-cpu", "max"}})
}

// twins compares two guests on taps of the recipe's bridge that differ in one thing.
func (b *bench) twins(thing, against string, one, other spec) error {
	server, err := background(b.wire, "serve", "0.0.0.0"+port)
	if err != nil {
		return err
	}
	defer server.stop()
	specs := []spec{other, one}
	for i := range specs {
		specs[i].name, specs[i].mode, specs[i].first = []string{"gc", "gd"}[i], "host-only", i == 0
		specs[i].cmdline = fmt.Sprintf("qnet.net0=192.168.77.%d/24,192.168.77.1", 10+i)
	}
	guests, err := b.guests(b.recipeVM, specs...)
	if err != nil {
		return err
	}
	defer stopAll(guests)
	bridge := path{link: "eth0", gateway: "192.168.77.1"}
	for _, m := range []struct{ what, unit, command string }{
		{"TCP, guest to host", "MB/s", "up"}, {"TCP, host to guest", "MB/s", "down"}, {"TCP request and response", "µs", "rr"},
	} {
		err := b.contest([]row{{what: thing + ", " + m.what, against: against, unit: m.unit}},
			guests[1].wire(m.command, bridge, path.host), guests[0].wire(m.command, bridge, path.host))
		if err != nil {
			return err
		}
	}
	return nil
}
