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
	return b.compare([]measurement{
		{row{what: thing + ", TCP, guest to host", unit: "MB/s"}, "up", path.host},
		{row{what: thing + ", TCP, host to guest", unit: "MB/s"}, "down", path.host},
		{row{what: thing + ", TCP request and response", unit: "µs"}, "rr", path.host},
	}, against, end{guests[1], bridge}, end{guests[0], bridge})
}
