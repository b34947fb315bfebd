package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/qnet-vm/qnet/internal/doctor/probe/guest"
	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/filters/read"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/nft/trace"
	"github.com/qnet-vm/qnet/profiles"
)

// Options say what a probe tries outside the network.
type Options struct {
	// Target is where the guest connects to outside. If it is zero, these are the host's
	// resolvers and default gateway, of which one must reply.
	Target netip.AddrPort
	Name   string // the name outside that the guest resolves; "" is example.com

	untraced bool // as on a kernel without traces; for tests
}

// Outcome is the outcome of a step.
type Outcome string

// The outcomes.
const (
	Pass Outcome = "pass"
	Warn Outcome = "warn" // it works, with a restriction
	Fail Outcome = "fail"
	Skip Outcome = "skip" // it could not be tried
)

// Step is one thing that a probe tries.
type Step struct {
	Name    string        `json:"name"`
	Outcome Outcome       `json:"outcome"`
	Took    time.Duration `json:"took_ns"`
	Detail  string        `json:"detail,omitempty"`
	Cause   string        `json:"cause,omitempty"` // why it failed: where a packet vanished, and what to do
}

// Report is the result of a probe of a network.
type Report struct {
	Network string        `json:"network"`
	Mode    profiles.Mode `json:"mode"`
	Bridge  string        `json:"bridge"`
	MAC     string        `json:"mac"`
	Lease   guest.Lease   `json:"lease"`
	Steps   []Step        `json:"steps"`
	Took    time.Duration `json:"took_ns"` // with joining and leaving
}

// Failed reports whether a step failed.
func (r Report) Failed() bool {
	return slices.ContainsFunc(r.Steps, func(s Step) bool { return s.Outcome == Fail })
}

// Run probes a network as a VM with the name probe-PID. Its error is that of joining the
// network or of leaving it. The report has what a guest would meet.
func Run(ctx context.Context, o keeper.Options, n keeper.Network, options Options) (report Report, err error) {
	begin := time.Now()
	facts, err := host.ObserveNetwork()
	if err != nil {
		return Report{}, err
	}
	r := &run{network: n, options: options, facts: facts, rules: read.Ruleset, resolvConf: "/etc/resolv.conf"}
	r.targets = r.findTargets()
	place := guest.Place{
		Keeper: o, Network: n, VM: fmt.Sprintf("probe-%d", os.Getpid()), Identity: "probe/" + n.Name, NICs: 1,
	}
	if n.Mode != profiles.Bridge {
		place.NICs = 2 // guests of one network reach each other
	}
	m, err := r.join(ctx, place)
	if err != nil {
		return Report{}, err
	}
	r.member, r.info, r.guest = m, m.Info(), m.Guests[0]
	defer func() {
		if r.tracer != nil {
			err = errors.Join(err, r.tracer.Close())
		}
		err = errors.Join(err, m.Close(context.WithoutCancel(ctx)))
		report.Took = time.Since(begin)
	}()
	if r.facts, err = host.ObserveNetwork(); err == nil { // now with the network
		r.all(ctx)
	}
	report = Report{
		Network: n.Name, Mode: n.Mode, Bridge: r.info.Bridge, MAC: r.guest.MAC.String(), Lease: r.lease,
		Steps: r.steps,
	}
	return report, errors.Join(err, ctx.Err())
}

// join joins the network, with a trace where the kernel has one.
func (r *run) join(ctx context.Context, p guest.Place) (*guest.Member, error) {
	tracer, err := trace.Start()
	if err == nil && r.options.untraced {
		err = errors.Join(errors.ErrUnsupported, tracer.Close())
	}
	if err == nil {
		r.tracer = tracer
		p.Trace = r.traced()
	}
	m, err := guest.Join(ctx, p)
	if p.Trace != nil && errors.Is(err, host.ErrUnsupported) {
		p.Trace = nil
		m, err = guest.Join(ctx, p)
	}
	if err != nil || p.Trace == nil {
		if r.tracer != nil {
			err = errors.Join(err, r.tracer.Close())
		}
		r.tracer = nil
	}
	return m, err
}

// traced are the addresses outside whose replies the trace follows through the host.
func (r *run) traced() []netip.Addr {
	list := []netip.Addr{}
	for _, t := range r.targets {
		if t.Addr().Is4() && !slices.Contains(list, t.Addr()) {
			list = append(list, t.Addr())
		}
	}
	return list
}

// run is one probe.
type run struct {
	network keeper.Network
	options Options
	facts   host.Facts
	targets []netip.AddrPort
	member  *guest.Member
	info    keeper.Info
	rules   func() filters.Ruleset // of other programs, as they are now
	guest   *guest.Guest
	lease   guest.Lease
	steps   []Step
	pinged  netip.Addr // a target that replies to ping

	resolvConf string        // the file of the host's name servers
	tracer     *trace.Tracer // nil where nothing can be traced
	beyond     bool          // the last explained fault is not on this host
}

// findTargets are the addresses outside to which the guest connects.
func (r *run) findTargets() []netip.AddrPort {
	if r.options.Target.IsValid() {
		return []netip.AddrPort{r.options.Target}
	}
	var targets []netip.AddrPort
	add := func(a netip.Addr) {
		own := slices.ContainsFunc(r.facts.Links, func(l host.Link) bool {
			return slices.ContainsFunc(l.Addresses, func(p netip.Prefix) bool { return p.Addr() == a })
		})
		t := netip.AddrPortFrom(a, 53)
		if a.Is4() && !a.IsLoopback() && !own && !slices.Contains(targets, t) {
			targets = append(targets, t)
		}
	}
	for _, a := range r.facts.Resolvers {
		add(a)
	}
	for _, route := range r.facts.Routes {
		if route.Dst.Bits() == 0 {
			add(route.Via)
		}
	}
	return targets
}

// skipped is the error of a step that cannot be tried.
type skipped struct{ why string }

func (s skipped) Error() string { return s.why }

// warned is the error of a step that passed with a restriction.
type warned struct{ what string }

func (w warned) Error() string { return w.what }

// try does one step and keeps its result. It reports whether the step passed.
func (r *run) try(ctx context.Context, name string, do func(context.Context) (string, error)) bool {
	before := r.count()
	begin := time.Now()
	detail, err := do(ctx)
	s := Step{Name: name, Outcome: Pass, Took: time.Since(begin), Detail: detail}
	var skip skipped
	var warn warned
	switch {
	case errors.As(err, &skip):
		s.Outcome, s.Detail = Skip, skip.why
	case errors.As(err, &warn):
		s.Outcome, s.Detail = Warn, warn.what
	case err != nil:
		s.Outcome, s.Detail = Fail, err.Error()
		r.beyond = false
		s.Cause = r.explain(ctx, err, before)
		if r.beyond && !r.options.Target.IsValid() {
			// Not every gateway replies, and the user has not named a target that does.
			s.Outcome, s.Cause = Skip, "not even the host gets an answer: name a target that is known to answer, with --target"
		}
	}
	r.steps = append(r.steps, s)
	return s.Outcome == Pass || s.Outcome == Warn
}

// all goes through the steps of the mode, in the order in which a guest needs them.
func (r *run) all(ctx context.Context) {
	switch r.network.Mode {
	case profiles.Private:
		r.guest.Configure(linkLocal(0))
		r.try(ctx, "another guest", r.peer)
		r.try(ctx, "the host is hidden", r.hostHidden)
		return
	case profiles.Bridge:
		if !r.try(ctx, "lease", r.leaseOfLAN) {
			return
		}
		defer r.guest.Release(context.WithoutCancel(ctx)) //nolint:errcheck // it ends by itself too
	default:
		r.try(ctx, "lease", r.leaseOfKeeper)
	}
	if !r.try(ctx, "gateway ARP", r.gatewayARP) {
		return // every other packet goes there
	}
	r.try(ctx, "gateway ping", r.gatewayPing)
	if r.network.Mode != profiles.Bridge {
		r.try(ctx, "another guest", r.peer)
		r.try(ctx, "name host.qnet", r.ownName)
		r.try(ctx, "borrowed address", r.borrowed)
		r.ipv6(ctx)
	}
	r.try(ctx, "name outside", r.nameOutside)
	if r.network.Mode == profiles.HostOnly {
		r.try(ctx, "the outside is closed", r.outsideClosed)
		return
	}
	r.try(ctx, "connect", r.connect)
	r.try(ctx, "ping outside", r.pingOutside)
	r.try(ctx, "full-size packet", r.fullSize)
}

// linkLocal is a lease for a network without DHCP (RFC 3927).
func linkLocal(nic int) guest.Lease {
	a := netip.AddrFrom4([4]byte{169, 254, 113, byte(10 + nic)})
	return guest.Lease{Address: a, Prefix: netip.PrefixFrom(a, 16).Masked(), MTU: host.DefaultMTU}
}
