package journal_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step/steptest"
	"github.com/qnet-vm/qnet/profiles"
)

// A keeper writes the journal, does the plan, and dies. The next process undoes the network.
func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "journal.json")
	memory := &steptest.Memory{State: map[string]string{}} // in place of kernel.Host
	ctx := context.Background()

	p, err := plan.New(plan.Network{Name: "lab", Mode: profiles.Private}, host.Facts{}, plan.Options{Salt: []byte("random")})
	if err != nil {
		fmt.Println(err)
		return
	}
	written, err := journal.New(p)
	if err == nil {
		err = written.Write(path)
	}
	if err == nil {
		err = apply.Do(ctx, memory.Kernel(), p.Steps, nil)
	}
	fmt.Println("done:", memory.State["link qn-lab"], err)

	j, err := journal.Read(path)
	if err == nil {
		err = apply.Undo(ctx, memory.Kernel(), j.Steps())
	}
	fmt.Println("undone:", len(memory.State) == 0, err)
	// Output:
	// done: qnet:lab <nil>
	// undone: true <nil>
}
