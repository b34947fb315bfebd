package profiles_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/qnet-vm/qnet/profiles"
)

// Load returns typed values, with the defaults filled in.
func ExampleLoad() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "web.toml")
	text := "memory = \"512MiB\"\n\n[[nic]]\nmode = \"private\"\nnetwork = \"dev\"\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		fmt.Println(err)
		return
	}
	p, err := profiles.Load(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s: %d bytes, %d CPU, %s on %q\n", p.Name, p.Memory, p.CPUs, p.NICs[0].Mode, p.NICs[0].Network)
	// Output: web: 536870912 bytes, 1 CPU, private on "dev"
}

// Decode reports all problems of a profile at once, in the order of the file.
func ExampleDecode() {
	text := "cpus = 0\n\n[[nic]]\nmode = \"natt\"\nsubnet = \"dev\"\n"
	_, err := profiles.Decode(strings.NewReader(text), "web.toml")
	var problems profiles.Errors
	fmt.Println(errors.As(err, &problems), len(problems))
	fmt.Println(err)
	// Output:
	// true 3
	// web.toml:1: cpus: got 0, allowed: 1 to 1024
	// web.toml:4: nic[0].mode: got "natt", allowed: private, host-only, nat, bridge, user, none; write mode = "nat"
	// web.toml:5: nic[0].subnet: unknown key; allowed: mode, network, address, address6, mac, guard, host, lan, egress, isolated, ports, model; subnet belongs in [network.NAME]
}
