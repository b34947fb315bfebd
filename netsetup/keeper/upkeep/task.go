package upkeep

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/kernel"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/profiles"
)

// Task is a part of the upkeep. Run returns when ctx ends, or with an error if the
// task cannot go on. String is its name.
type Task interface {
	Run(ctx context.Context) error
	String() string
}

// Network is the keeper as the tasks know it. Its methods may be called
// concurrently.
type Network interface {
	// WhileRunning runs f, which may change the host and the journal, unless the
	// network is being undone: then it returns nil. It waits for its turn until ctx
	// ends. It must not be called within itself.
	WhileRunning(ctx context.Context, f func() error) error
	// Members are the VMs registered. It may be called within WhileRunning.
	Members() []Member
	// Note tells the users of all VMs. NoteOnce does so once for each text.
	Note(n keeper.Note)
	NoteOnce(n keeper.Note)
	// Replug makes all guests see their cable pulled and plugged.
	Replug()
	// PortsRenamed tells that the steps of VMs' ports in the journal have other names of
	// links. It is called within WhileRunning.
	PortsRenamed()
	// RestartServices serves DHCP and DNS on a bridge that was made anew. It is called
	// within WhileRunning.
	RestartServices(ctx context.Context) error
	// SetRouter6 tells guests whether the host is their IPv6 router to the outside. It is
	// called within WhileRunning.
	SetRouter6(on bool)
}

// Member is a VM registered with the network.
type Member struct {
	VM    string
	Ports []keeper.Port
	Steps step.List // that made its ports
	Away  bool      // it has not yet come back to a keeper that adopted the network
}

// Config is what the tasks work on.
type Config struct {
	Network Network
	Place   rundir.Network
	Host    *kernel.Host
	Journal *journal.Journal // read and changed within WhileRunning only
	Log     *slog.Logger
	Clocks  func() Clock // KernelClocks, or a test's
}

// base is what every task has.
type base struct {
	Config
	plan plan.Plan // as it was when the tasks were made: for what of it never changes
	live *atomic.Pointer[current]
}

// current is what the tasks know of the journal outside of WhileRunning.
type current struct {
	plan  plan.Plan       // with the names that its links have by now
	links []host.Identity // of its uplinks

	bridge int // its index; 0 with macvtap, and where the bridge is the host's
}

// publish gives the tasks the journal's names. It is called within WhileRunning, or before
// the tasks run.
func (b *base) publish() {
	c := &current{plan: b.Journal.Plan, links: slices.Clone(b.Journal.Links)}
	if own, ok := step.Find[step.AddBridge](c.plan.Steps); ok {
		if l, there, err := host.ReadLink(own.Name); err == nil && there && l.Alias == own.Alias {
			c.bridge = l.Index
		}
	}
	b.live.Store(c)
}

func (b *base) about(text, remedy string) keeper.Note {
	return keeper.Note{Subject: "network " + b.Place.Name, Text: text, Remedy: remedy}
}

// kernel is what steps act on.
func (b *base) kernel() step.Kernel { return b.Host.Kernel() }

// save writes the journal. It is called within WhileRunning.
func (b *base) save() error { return b.Journal.Write(b.Place.Journal()) }

// uplink is the link that leads to the LAN: the NIC, or a bridge that was there.
func (b *base) uplink() string { return b.live.Load().plan.Network.Uplink }

// hostLink is the link that the host itself has its addresses of the LAN on.
func (b *base) hostLink() string { return cmp.Or(b.live.Load().plan.Bridge, b.uplink()) }

// Tasks are the tasks of one network. The zero value has none.
type Tasks struct {
	All      []Task
	Resolver *Resolver // does nothing until Serve
	onLink   *onLink   // nil where no guest leaves
	pins     *pins     // nil where the network has no prefix
	names    *names    // nil of the zero value
	mender   *mender   // nil of the zero value
}

// New makes the tasks that the network needs, and subscribes to the kernel's events:
// nothing that changes from now on is missed. It must be called before Config.Network
// is used by others.
func New(ctx context.Context, c Config) *Tasks {
	b := base{c, c.Journal.Plan, &atomic.Pointer[current]{}}
	b.publish()
	e, err := listen()
	if err != nil {
		c.Network.Note(b.about("changes by other programs are noticed late: "+err.Error(), ""))
	}
	z := &zones{base: b, changed: newSignal()}
	f := &forwarding{base: b, held: map[string][]string{}}
	m := &mender{
		base: b, changed: e.subscribe(links | addresses | netconfs | tables), forwarding: f, zones: z,
		fights: map[string]*fight{}, yielded: map[string]bool{}, lost: map[string]*loss{}, barred: map[keeper.Note]bool{},
	}
	t := &Tasks{Resolver: &Resolver{base: b, changed: newSignal()}}
	names := &names{base: b, changed: e.subscribe(links), forwarding: f}
	t.names, t.mender = names, m
	t.All = []Task{e, m, &silent{changed: m.changed}, z, t.Resolver, names}
	if b.plan.HasForwarding() {
		u := &uplinks{
			base: b, forwarding: f, changed: e.subscribeIf(links|addresses|addresses6|routes4|routes6|rules, waysOf(b.plan).matters),
		}
		names.uplinks = u
		if b.plan.Prefix6.IsValid() {
			u.changed.set() // a dead keeper may not have told guests that the host's route is gone
		}
		t.All = append(t.All, u)
	}
	if b.plan.Network.Mode == profiles.NAT {
		t.onLink = &onLink{base: b, changed: e.subscribe(links | addresses | addresses6 | routes4 | routes6)}
		t.All = append(t.All, t.onLink)
	}
	if b.plan.Prefix.IsValid() {
		// A dead keeper may have left pins.
		t.pins = &pins{base: b, clean: len(c.Journal.Pins) == 0, changed: e.subscribeIf(routes4|rules, about(b.plan.Prefix.Masked()))}
		t.All = append(t.All, t.pins)
	}
	if b.plan.Client.Program != "" {
		m.lease = newLease(b)
		t.All = append(t.All, m.lease)
	}
	if b.plan.Network.Mode == profiles.Bridge {
		t.All = append(t.All, newLAN(ctx, b, e.subscribe(links), m))
	}
	return t
}

// FollowNames gives the journal the names that the uplinks have by now. It is called with the
// keeper's lock of changes held.
func (t *Tasks) FollowNames(ctx context.Context) error {
	if t.names == nil || t.names.same() {
		return nil
	}
	return t.names.follow(ctx, t.names.kernel())
}

// GuestsChanged makes the tasks look at the VMs again. It may be called on nil.
func (t *Tasks) GuestsChanged() {
	if t != nil && t.pins != nil {
		t.pins.changed.set()
	}
	if t != nil && t.onLink != nil { // a network that the host joined while the VM did
		t.onLink.changed.set()
	}
}

// signal wakes one task. More than one before the task looks count as one.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) set() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// wait reports false if the context ended before the time.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// patrolInterval is the time between two looks without an event: some sysctls
// cause none.
const patrolInterval = 10 * time.Second
