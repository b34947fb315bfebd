package apply_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/netsetup/step/steptest"
)

func none(step.Step) bool { return false }

func mend(t *testing.T, m *steptest.Memory, steps []step.Step, skip func(step.Step) bool) ([]string, error) {
	t.Helper()
	snapshot, err := apply.TakeSnapshot(t.Context(), m.Kernel())
	if err != nil {
		t.Fatal(err)
	}
	mended, err := apply.Mend(t.Context(), snapshot, steps, skip)
	return names(mended), err
}

// What another program takes away, Mend puts back, and no more.
func TestMend(t *testing.T) {
	whole, _ := done(t)
	for key, want := range map[string][]string{
		"/" + forwarding:               {"SetSysctl"},
		"table qnet_devinet":           {"AddTable"},
		"addr 192.168.223.1/24@qn-dev": {"AddAddr"},
		"up qn-dev":                    {"SetUp"},
		"zone qn-dev":                  {"SetZone"},
		"master qnweb0":                {"SetPort"},
		"link qn-dev":                  {"AddBridge", "AddTable"}, // the netdev table's hook went with the bridge
		"":                             nil,
	} {
		m := &steptest.Memory{State: maps.Clone(whole)}
		delete(m.State, key)
		mended, err := mend(t, m, network(), none)
		if err != nil || !slices.Equal(mended, want) {
			t.Errorf("without %q: mended %v, %v; want %v", key, mended, err, want)
		}
		wantState(t, key, m.State, whole)
	}
}

// DNS settings go with the bridge, too, though LinkDNS.Holds does not ask for them.
func TestMendGivesANewBridgeItsDNS(t *testing.T) {
	m := &steptest.Memory{State: start()}
	steps := append(network(), linkDNS)
	if err := apply.Do(t.Context(), m.Kernel(), steps, nil); err != nil {
		t.Fatal(err)
	}
	delete(m.State, "link qn-dev")
	if mended, err := mend(t, m, steps, none); err != nil || !slices.Contains(mended, "LinkDNS") {
		t.Errorf("mended %v, %v", mended, err)
	}
}

func TestMendSkips(t *testing.T) {
	state, _ := done(t)
	delete(state, "table qnet_devinet")
	delete(state, "up qn-dev")
	m := &steptest.Memory{State: state}
	isTable := func(s step.Step) bool { return step.TypeName(s) == "AddTable" }
	if mended, err := mend(t, m, network(), isTable); err != nil || !slices.Equal(mended, []string{"SetUp"}) {
		t.Errorf("mended %v, %v", mended, err)
	}
}

// Mend goes on after a step that fails, and does not make a port again.
func TestMendGoesOn(t *testing.T) {
	state, _ := done(t)
	for _, key := range []string{"link qnweb0", "/" + forwarding, "up qn-dev"} {
		delete(state, key)
	}
	m := &steptest.Memory{State: state, Fail: 1}
	mended, err := mend(t, m, network()[:8], none) // up to the tap
	if !errors.Is(err, apply.ErrLost) || !errors.Is(err, steptest.ErrInjected) || !slices.Equal(mended, []string{"SetUp"}) {
		t.Errorf("mended %v, %v", mended, err)
	}
}

// counted counts the questions to the kernel for one link.
type counted struct {
	step.Links
	links, lists *int
}

func (c counted) Link(ctx context.Context, name string) (host.Link, bool, error) {
	*c.links++
	return c.Links.Link(ctx, name)
}

func (c counted) ListLinks(ctx context.Context) ([]host.Link, error) {
	*c.lists++
	return c.Links.ListLinks(ctx)
}

// A look at a whole network costs one dump, however many links it has.
func TestMendAsksOnce(t *testing.T) {
	state, _ := done(t)
	k := (&steptest.Memory{State: state}).Kernel()
	var links, lists int
	k.Links = counted{k.Links, &links, &lists}
	snapshot, err := apply.TakeSnapshot(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := apply.Mend(t.Context(), snapshot, network(), none); err != nil {
		t.Fatal(err)
	}
	if lost := apply.Lost(t.Context(), snapshot, network()); lost != nil {
		t.Errorf("lost %v", lost)
	}
	if links != 0 || lists != 1 {
		t.Errorf("%d links, %d dumps", links, lists)
	}
}

type broken struct{ step.Links }

func (broken) ListLinks(context.Context) ([]host.Link, error) { return nil, steptest.ErrInjected }

func TestSnapshotFails(t *testing.T) {
	k := (&steptest.Memory{}).Kernel()
	k.Links = broken{k.Links}
	if _, err := apply.TakeSnapshot(t.Context(), k); !errors.Is(err, steptest.ErrInjected) {
		t.Errorf("got %v", err)
	}
}

func TestLostNamesPorts(t *testing.T) {
	state, _ := done(t)
	delete(state, "link qnweb0")
	delete(state, "link qn-dev") // no port
	snapshot, err := apply.TakeSnapshot(t.Context(), (&steptest.Memory{State: state}).Kernel())
	if err != nil {
		t.Fatal(err)
	}
	if lost := apply.Lost(t.Context(), snapshot, network()); !slices.Equal(lost, []string{"qnweb0"}) {
		t.Errorf("lost %v", lost)
	}
}
