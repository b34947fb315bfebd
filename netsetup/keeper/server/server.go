package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/internal/lockfile"
	"github.com/qnet-vm/qnet/netsetup/dhcp"
	"github.com/qnet-vm/qnet/netsetup/dns"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/hostlease"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/kernel"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/profiles"
)

// firstJoin bounds how long a keeper waits for the VM it was started for.
const firstJoin = 10 * time.Second

// expectPoll is how often is looked whether whoever it waits for lives.
const expectPoll = 100 * time.Millisecond

// memoryLimit is what a keeper tries to stay below, in bytes.
const memoryLimit = 16 << 20

// keeper is one network's process.
type keeper struct {
	paths
	stateDir string
	host     *kernel.Host
	life     *lockfile.Lock
	listener *net.UnixListener
	log      *slog.Logger
	spec     startSpec

	dhcp *dhcp.Server // host-only and nat
	dns  *dns.Server  // and that, unless somebody else has the port

	resolved *hostResolver      // of the DNS server
	zoned    atomic.Bool        // firewalld runs
	waits    func(string)       // tells who started it what the start waits for
	pinner   *pinner            // nil before serve, and where the network has no prefix
	lease    *hostlease.Renewer // of the host, in mode bridge; nil where nobody keeps one
	guard    *guardProcess      // nil where the host stays on its NIC

	noted sync.Mutex      // guards told
	told  map[string]bool // notes on others' filters, each told once

	mu      sync.Mutex // guards what follows, and every change to the host
	journal *journal.Journal
	vms     map[string]*member
	texts   []string       // of note
	drift   []string       // what was no longer as we left it when the network was undone
	guarded *[]string      // of guardUplinks, nil if not known
	uplinks map[string]int // indexes of those whose forwarding we turned on, of renewUplinks
	joined  bool           // a VM has registered at least once
	over    bool           // the network is undone or being undone
	err     error
	ended   chan struct{} // closed when over and done
}

// rejoinTime is how long VMs have to come back to a keeper that adopted their
// network. Supervisors notice the death of a keeper at once.
const rejoinTime = 3 * time.Second

// Main runs a keeper: `qnet keeper --run-dir D --state-dir D`, started by Join
// with the network as JSON on stdin and a pipe for its first word as fd 3. It
// returns the exit code.
func Main(args []string, stdin io.Reader, stderr io.Writer) int {
	// A keeper idles most of the time: the garbage of a burst, 64 KiB for each
	// netlink answer, is worth more to the host than the time to collect it.
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(memoryLimit)
	if len(args) > 0 && args[0] == guardFlag {
		return guard(args[1:], stderr)
	}
	ready := os.NewFile(3, "ready")
	words := json.NewEncoder(ready)
	k, steps, err := start(args, stdin, func(what string) {
		words.Encode(reply{Waits: what}) //nolint:errcheck // whoever started it is gone: the last word finds out
	})
	rep := reply{Error: toWire(err), Steps: steps}
	if encodeErr := words.Encode(rep); err == nil && encodeErr != nil {
		err = encodeErr
		k.end()
	}
	ready.Close()
	if err != nil {
		fmt.Fprintf(stderr, "qnet keeper: %v\n", err)
		return 1
	}
	k.serve()
	if k.err != nil {
		return 1
	}
	return 0
}

func start(args []string, stdin io.Reader, waits func(string)) (*keeper, []string, error) {
	if len(args) != 4 || args[0] != "--run-dir" || args[2] != "--state-dir" {
		return nil, nil, errors.New("start keeper: it is started by qnet run only")
	}
	var spec startSpec
	if err := json.NewDecoder(stdin).Decode(&spec); err != nil {
		return nil, nil, fmt.Errorf("start keeper: decode network: %w", err)
	}
	n := spec.Network
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGPIPE)
	k := &keeper{paths: paths{args[1], n.Name}, stateDir: args[3], vms: map[string]*member{}, told: map[string]bool{}, uplinks: map[string]int{}, ended: make(chan struct{})}
	k.log, k.spec, k.waits = slog.New(slog.DiscardHandler), spec, waits
	steps, err := k.open(n)
	return k, steps, err
}

// open makes the network and its socket, or leaves nothing.
func (k *keeper) open(n plan.Network) ([]string, error) {
	k.waits("the end of the network's last keeper, which undoes it")
	life, err := lockfile.Wait(context.TODO(), k.keeperLock())
	if err != nil {
		return nil, permission(err)
	}
	steps, err := k.apply(n)
	if err != nil {
		return nil, errors.Join(err, life.Release())
	}
	k.life = life
	err = k.startServices()
	if err == nil {
		k.startLease()
		err = failpoint.Hit("keeper serves")
	}
	if err == nil {
		err = k.listen()
	}
	if err == nil {
		err = failpoint.Hit("keeper listens")
	}
	if err != nil {
		k.end()
		return nil, errors.Join(err, k.err)
	}
	return steps, nil
}

func (k *keeper) apply(n plan.Network) ([]string, error) {
	lock, err := lockfile.Wait(context.TODO(), k.planLock())
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	if k.host, err = kernel.New(); err != nil {
		return nil, err
	}
	k.host.OnWarn(k.note)
	adopted, err := k.adopt()
	if adopted || err != nil {
		return nil, err
	}
	if _, err := recoverNetwork(k.host.Kernel(), k.paths); err != nil {
		return nil, err
	}
	for tries := 1; ; tries++ {
		plan, err := k.plan(n)
		if err == nil {
			err = k.tryLease(plan)
		}
		if err != nil {
			return nil, err
		}
		done, err := k.carryOut(plan)
		if !errors.Is(err, step.ErrChanged) || tries == maxPlans {
			return done, err
		}
	}
}

// maxPlans is how often is planned anew when the host changes meanwhile.
const maxPlans = 5

// carryOut writes the journal, and then does what the plan says.
func (k *keeper) carryOut(plan plan.Plan) (done []string, err error) {
	if k.journal, err = journal.New(plan); err != nil {
		return nil, err
	}
	if err := k.make(); err != nil {
		return nil, fmt.Errorf("make run directory: %w", err)
	}
	err = k.journal.Write(k.paths.journal())
	if err == nil {
		err = failpoint.Hit("keeper wrote the journal")
	}
	if err != nil {
		return nil, errors.Join(err, k.remove())
	}
	if err := k.guardHost(plan); err != nil {
		return nil, errors.Join(err, k.remove())
	}
	own, accepts := step.SplitOptional(plan.Steps)
	say := func(s step.Step) {
		done = append(done, s.String())
		if next := len(done); next < len(own) {
			k.awaits(own[next])
		}
	}
	if err := step.Apply(context.TODO(), k.host.Kernel(), own, say); err != nil {
		if errors.Is(err, host.ErrLeft) {
			return nil, err // the journal tells the next who tries what is left
		}
		return nil, errors.Join(err, k.remove())
	}
	k.letPass(accepts, say)
	return done, nil
}

// awaits tells what the step that comes waits for.
func (k *keeper) awaits(s step.Step) {
	if what := step.WaitsFor(s); what != "" {
		k.waits(what)
	}
}

func (k *keeper) plan(n plan.Network) (plan.Plan, error) {
	q := n.Query()
	q.Original = journal.Original(k.place())
	if q.Ask, q.Peer = q.LAN, k.spec.Peer; q.Ask {
		k.waits("the answer of the host's gateways, before anything is changed")
	}
	facts, err := host.Observe(context.TODO(), q)
	if err != nil {
		return plan.Plan{}, err
	}
	facts.Configurators = k.configurators(facts.Configurators)
	salt, err := journal.LoadSalt(k.stateDir)
	if err != nil {
		return plan.Plan{}, err
	}
	p, err := plan.New(n, facts, plan.Options{
		Salt: salt, Remembered: journal.Remembered(k.stateDir, n.Name), AssumeYes: k.spec.AssumeYes,
	})
	if err == nil && p.Prefix.IsValid() && !n.Subnet.IsValid() {
		err = journal.Remember(k.stateDir, n.Name, p.Prefix)
	}
	return p, err
}

// configurators are the programs that can be told to leave our links alone: their
// files are root's, which a keeper with its file's capabilities only is not.
func (k *keeper) configurators(running []managers.Program) []managers.Program {
	if os.Geteuid() == 0 || len(running) == 0 {
		return running
	}
	k.note(fmt.Sprintf("%v may meddle with the links of VMs: only root can tell them not to", running))
	return nil
}

func (k *keeper) listen() error {
	os.Remove(k.socket()) // a killed keeper's; we hold its lock
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: k.socket(), Net: "unixpacket"})
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	k.listener = l
	return os.Chmod(k.socket(), 0o600)
}

// serve returns when the network is undone.
func (k *keeper) serve() {
	guardian := k.startGuard()
	defer guardian.stop()
	defer k.followFirewalld()()
	if k.journal.Plan.Network.Mode == profiles.NAT {
		stop := k.watchUplinks()
		defer stop()
	}
	if k.journal.Plan.Prefix.IsValid() {
		k.pinner = k.startPinning()
		defer k.pinner.stop()
	}
	if k.journal.Plan.Network.Mode == profiles.Bridge {
		stop := k.watchLAN(guardian)
		defer stop()
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, unix.SIGTERM)
	go k.expect()
	var clients sync.WaitGroup
	go func() {
		for {
			c, err := k.listener.AcceptUnix()
			if err != nil {
				return // closed by end
			}
			clients.Go(func() { k.client(c) })
		}
	}()
	select {
	case <-term:
		k.end()
	case <-k.ended:
		// The last client learns of the end by its reply, and then by EOF at
		// this process's exit, when everything is given up.
		clients.Wait()
	}
}

// whileRunning runs f, which may change the network, unless that is being undone.
// It takes the locks in the order of endLocked: the keeper's own first.
func (k *keeper) whileRunning(f func() error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over {
		return nil
	}
	lock, err := lockfile.Wait(context.TODO(), k.planLock())
	if err != nil {
		return err
	}
	defer lock.Release()
	return f()
}

// expect ends what waits in vain: a keeper whose starter does not join, or died
// before it did, and VMs that had a keeper before this one and do not come back.
func (k *keeper) expect() {
	tick := time.NewTicker(expectPoll)
	defer tick.Stop()
	for begin := time.Now(); time.Since(begin) < firstJoin; {
		select {
		case <-k.ended:
			return
		case <-tick.C:
		}
		if k.spec.Starter != 0 && os.Getppid() != k.spec.Starter {
			k.endIfIdle()
		}
		k.endAway(time.Since(begin) > rejoinTime)
	}
	k.endIfIdle()
}

func (k *keeper) endIfIdle() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.joined {
		k.endLocked()
	}
}

func (k *keeper) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.endLocked()
}

// endLocked undoes the network. Connections that arrive from now on are closed
// unanswered, and their clients start the next keeper.
func (k *keeper) endLocked() {
	if k.over {
		return
	}
	k.over = true
	if k.listener != nil {
		k.listener.Close() // removes the socket's file too
	}
	k.stopServices()
	if k.lease != nil {
		k.lease.Close()
	}
	for _, m := range k.vms {
		m.close()
	}
	k.err = errors.Join(k.undo(), k.life.Release())
	close(k.ended)
}

// undo takes everything back that the journal tells of. Where a step could not
// be undone, the journal stays, for `qnet gc` to try again.
func (k *keeper) undo() error {
	lock, err := lockfile.Wait(context.TODO(), k.planLock())
	if err != nil {
		return err
	}
	defer lock.Release()
	steps := journal.Own(k.journal.Steps(), k.place())
	k.drift = step.Drift(context.TODO(), k.host.Kernel(), steps)
	err = errors.Join(step.Undo(context.TODO(), k.host.Kernel(), steps), step.SweepAccepts(context.TODO(), k.host.Kernel(), k.network))
	err = errors.Join(err, k.host.Close())
	if err != nil {
		return err
	}
	err = k.remove()
	failpoint.Hit("keeper removed its files") //nolint:errcheck // nothing is left to undo
	return err
}
