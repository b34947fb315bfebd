package server

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/internal/lockfile"
	"github.com/qnet-vm/qnet/internal/perm"
	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/keeper/upkeep"
	"github.com/qnet-vm/qnet/netsetup/kernel"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// open makes the network and its socket, or leaves nothing. It returns the commands
// of the steps it did.
func (s *server) open(ctx context.Context) ([]string, error) {
	s.waits("the end of the network's last keeper, which undoes it")
	life, err := lockfile.Wait(ctx, s.place.KeeperLock())
	if err != nil {
		return nil, keeper.Permission(err)
	}
	steps, err := s.apply(ctx)
	if err != nil {
		return nil, errors.Join(err, life.Release())
	}
	s.life = life
	s.upkeep = upkeep.New(ctx, upkeep.Config{
		Network: s, Place: s.place, Host: s.kernel, Journal: s.journal, Log: s.log, Clocks: s.clocks,
	})
	err = s.startServices(ctx)
	if err == nil {
		err = failpoint.Hit("keeper serves")
	}
	if err == nil {
		err = s.listen(ctx)
	}
	if err == nil {
		err = failpoint.Hit("keeper listens")
	}
	if err != nil {
		s.end(ctx)
		return nil, errors.Join(err, s.err)
	}
	return steps, nil
}

// planLimit is how often the keeper plans when the host changes meanwhile.
const planLimit = 5

func (s *server) apply(ctx context.Context) ([]string, error) {
	if err := keeper.CheckRights(); err != nil {
		return nil, err
	}
	lock, err := lockfile.Wait(ctx, s.place.PlanLock())
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	if s.kernel, err = kernel.New(); err != nil {
		return nil, err
	}
	s.host = s.kernel
	s.kernel.OnWarn(func(text string) { s.Note(s.about(text)) })
	adopted, err := s.adopt(ctx)
	if adopted || err != nil {
		return nil, err
	}
	if _, err := keeper.Recover(ctx, s.host.Kernel(), s.place); err != nil {
		return nil, err
	}
	for tries := 1; ; tries++ {
		planned, err := s.plan(ctx)
		if err == nil {
			err = upkeep.TryLease(ctx, s.kernel, planned, s.waits)
		}
		if err != nil {
			return nil, err
		}
		done, err := s.carryOut(ctx, planned)
		if !errors.Is(err, step.ErrChanged) || tries == planLimit {
			return done, err
		}
	}
}

// carryOut starts the watchdog, writes the journal, and then does what the plan says.
func (s *server) carryOut(ctx context.Context, planned plan.Plan) (done []string, err error) {
	if s.journal, err = journal.New(planned); err != nil {
		return nil, err
	}
	links, err := s.host.Kernel().ListLinks(ctx)
	if err != nil {
		return nil, err
	}
	s.journal.Identify(links)
	s.planNotes = planned.Notes
	if err := s.place.Make(); err != nil {
		return nil, fmt.Errorf("make run directory: %w", err)
	}
	// The watchdog first: a keeper that is killed in between leaves no journal behind that
	// only `qnet gc` would remove.
	err = s.startWatchdog(planned)
	if err == nil {
		err = s.journal.Write(s.place.Journal())
	}
	if err == nil {
		err = failpoint.Hit("keeper wrote the journal")
	}
	if err != nil {
		return nil, errors.Join(err, s.place.Remove())
	}
	own, accepts := apply.SplitOptional(planned.Steps)
	say := func(did step.Step) {
		done = append(done, did.String())
		if next := len(done); next < len(own) {
			s.awaits(own[next])
		}
	}
	if err := apply.Do(ctx, s.host.Kernel(), own, say); err != nil {
		if errors.Is(err, host.ErrLeft) {
			return nil, err // the journal stays: the next keeper tries to undo what is left
		}
		return nil, errors.Join(err, s.place.Remove())
	}
	s.letPass(ctx, accepts, say)
	return done, nil
}

// awaits tells what the step that comes waits for.
func (s *server) awaits(next step.Step) {
	if what := step.WaitsFor(next); what != "" {
		s.waits(what)
	}
}

// letPass inserts a plan's accepts into others' chains. A network without them still
// is one: the keeper tells what fails, and undoes nothing.
func (s *server) letPass(ctx context.Context, accepts step.List, done func(step.Step)) {
	for _, a := range accepts {
		if err := apply.Do(ctx, s.host.Kernel(), []step.Step{a}, done); err != nil {
			s.NoteOnce(s.about(fmt.Sprintf("network %s: %v", s.place.Name, err)))
		}
	}
}

func (s *server) plan(ctx context.Context) (plan.Plan, error) {
	if err := ctx.Err(); err != nil {
		return plan.Plan{}, context.Cause(ctx)
	}
	n := s.spec.Network
	q := n.Query()
	q.Original = journal.OriginalSysctls(s.place)
	if q.Ask, q.Peer = q.LAN, s.spec.Peer; q.Ask {
		s.waits("the answer of the host's gateways, before anything is changed")
	}
	facts, err := host.Observe(ctx, q)
	if err != nil {
		return plan.Plan{}, err
	}
	facts.Managers = s.configurators(facts.Managers)
	salt, err := journal.LoadSalt(s.stateDir)
	if err != nil {
		return plan.Plan{}, err
	}
	p, err := plan.New(n, facts, plan.Options{
		Salt: salt, Remembered: journal.LoadSubnet(s.stateDir, n.Name), Remembered6: journal.LoadSubnet(s.stateDir, journal.Subnet6Of(n.Name)), AssumeYes: s.spec.AssumeYes,
		SetUp: journal.SetUpByOthers(s.place),
	})
	if err == nil && p.Prefix.IsValid() && !n.Subnet.IsValid() {
		err = journal.SaveSubnet(s.stateDir, n.Name, p.Prefix)
	}
	if err == nil && p.Prefix6.IsValid() && !n.Subnet6.IsValid() {
		err = journal.SaveSubnet(s.stateDir, journal.Subnet6Of(n.Name), p.Prefix6)
	}
	return p, err
}

// configurators are the programs that can be told to leave our links alone. Their
// files are root's: a keeper with its file's capabilities only cannot write them.
func (s *server) configurators(running []managers.Program) []managers.Program {
	if os.Geteuid() == 0 || len(running) == 0 {
		return running
	}
	s.Note(s.about(fmt.Sprintf("%v may meddle with the links of VMs: only root can tell them not to", running)))
	return nil
}

func (s *server) listen(ctx context.Context) error {
	os.Remove(s.place.Socket()) // a killed keeper's; we hold its lock
	l, err := perm.Listen(ctx, "unixpacket", s.place.Socket())
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	s.listener = l
	return nil
}
