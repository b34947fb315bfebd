package apply_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/netsetup/step/steptest"
)

// Nothing interrupts Undo: neither its context nor one error.
func TestUndoIsNeverInterrupted(t *testing.T) {
	state, _ := done(t)
	m := &steptest.Memory{State: state}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := apply.Undo(ctx, m.Kernel(), network()); err != nil {
		t.Fatal(err)
	}
	wantState(t, "cancelled", m.State, start())
}

// Whichever call fails: once, Undo tries it again; twice, Undo tells it and goes on, and a
// second Undo does the rest.
func TestUndoGoesOnAfterAFailure(t *testing.T) {
	state, _ := done(t)
	whole := &steptest.Memory{State: maps.Clone(state)}
	if err := apply.Undo(t.Context(), whole.Kernel(), network()); err != nil {
		t.Fatal(err)
	}
	for call := 1; call <= whole.Calls; call++ {
		for _, after := range []bool{false, true} {
			once := &steptest.Memory{State: maps.Clone(state), Fail: call, After: after}
			if err := apply.Undo(t.Context(), once.Kernel(), network()); err != nil {
				t.Errorf("call %d failed once: %v", call, err)
			}
			wantState(t, "once", once.State, start())
		}
		twice := &steptest.Memory{State: maps.Clone(state), Fail: call, Times: 2}
		if err := apply.Undo(t.Context(), twice.Kernel(), network()); call < whole.Calls && !errors.Is(err, steptest.ErrInjected) && twice.Calls == whole.Calls {
			t.Errorf("call %d failed twice: %v", call, err)
		}
		if err := apply.Undo(t.Context(), twice.Kernel(), network()); err != nil {
			t.Errorf("call %d, again: %v", call, err)
		}
		wantState(t, "twice", twice.State, start())
	}
}

func TestUndoOfNothingIsNoError(t *testing.T) {
	m := &steptest.Memory{State: start()}
	for _, steps := range [][]step.Step{nil, network(), {tap}, {rules}} {
		if err := apply.Undo(t.Context(), m.Kernel(), steps); err != nil {
			t.Error(err)
		}
	}
	wantState(t, "nothing", m.State, start())
}

// Undo leaves alone what another program put in place of the network's.
func TestUndoLeavesOthersAlone(t *testing.T) {
	state, _ := done(t)
	for key, value := range map[string]string{"link qn-dev": "mine", "link qnweb0": "", "/" + forwarding: "2", "table qnet_devinet": "mine", "zone qn-dev": "work"} {
		state[key] = value
	}
	m := &steptest.Memory{State: state}
	before := maps.Clone(state)
	if err := apply.Undo(t.Context(), m.Kernel(), network()); err != nil {
		t.Fatal(err)
	}
	delete(before, "table qnet_devnetdev") // that one still bore the mark
	wantState(t, "others'", m.State, before)
}

// events records calls in their order, and holds the deletion of links until a table goes.
type events struct {
	step.Links
	step.Tables
	mu    sync.Mutex
	list  []string
	table chan struct{}
	once  sync.Once
}

func (e *events) add(words ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, strings.Join(words, " "))
}

func (e *events) SetUp(ctx context.Context, link string, up bool) error {
	e.add("down", link)
	return e.Links.SetUp(ctx, link, up)
}

func (e *events) DelLinks(ctx context.Context, names []string) error {
	<-e.table
	e.add("delete", strings.Join(names, ","))
	return e.Links.DelLinks(ctx, names)
}

func (e *events) DelTable(ctx context.Context, t nft.Table) error {
	e.add("table", string(t.Family))
	e.once.Do(func() { close(e.table) })
	return e.Tables.DelTable(ctx, t)
}

// Links are only set down in their turn. One request deletes them all, in the turn of the
// first; the tables go meanwhile.
func TestUndoDeletesLinksInOneRequest(t *testing.T) {
	state, _ := done(t)
	state["link qndb0"] = "qnet:dev/db/0"
	m := &steptest.Memory{State: state}
	k := m.Kernel()
	e := &events{Links: k.Links, Tables: k.Tables, table: make(chan struct{})}
	k.Links, k.Tables = e, e
	db := step.AddTap{Name: "qndb0", Alias: "qnet:dev/db/0"}
	if err := apply.Undo(t.Context(), k, append(network(), db, db)); err != nil { // twice there: of two journals
		t.Fatal(err)
	}
	if i := slices.Index(e.list, "delete qndb0,qnweb0,qn-dev"); i < 0 || !slices.Equal(e.list[:3], []string{"down qndb0", "down qnweb0", "down qn-dev"}) || len(e.list) != 6 {
		t.Errorf("got %q", e.list)
	}
	wantState(t, "undone", m.State, start())
}

// A table that no link comes before is undone in its turn.
func TestUndoOfTablesBeforeLinks(t *testing.T) {
	m := &steptest.Memory{State: start()}
	steps := []step.Step{rules, bridge}
	if err := apply.Do(t.Context(), m.Kernel(), steps, nil); err != nil {
		t.Fatal(err)
	}
	if err := apply.Undo(t.Context(), m.Kernel(), steps); err != nil {
		t.Fatal(err)
	}
	wantState(t, "undone", m.State, start())
}

func TestUndoScript(t *testing.T) {
	const want = `ip link del qnweb0
firewall-cmd --zone=trusted --remove-interface=qn-dev
nft delete table netdev qnet_dev
nft delete table inet qnet_dev
ip link del qn-dev
sysctl -qw net/ipv4/conf/eth0/forwarding=0`
	if got := apply.UndoScript(network()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
