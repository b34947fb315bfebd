package netsetup

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// raisedBy is what is added to the metric of a route that is to go after all others.
const raisedBy = 1 << 30

// RaiseMetrics lets every other way out go before the host's routes by a bridge
// whose cable is pulled: the bridge itself stays up, because its VMs' ports do, so
// that no other program sees what happened (F27). Where there is no other way, all
// stays as it was.
//
// What routers advertise to the kernel is left alone: of those the kernel itself
// prefers one that answers (RFC 4861, 6.3.6); see GiveUpRouters.
type RaiseMetrics struct {
	Link string   `json:"link"`
	Held Holdings `json:"held"` // the routes
}

// Do raises them.
func (s RaiseMetrics) Do(k Kernel) error {
	return s.word("raise", k.ReplaceRoutes(s.Link, s.swaps(true)))
}

// Undo makes those that are still raised as they were.
func (s RaiseMetrics) Undo(k Kernel) error {
	if _, ok, err := k.Link(s.Link); err != nil || !ok {
		return err // the routes went with it
	}
	return s.word("restore", k.ReplaceRoutes(s.Link, s.swaps(false)))
}

func (s RaiseMetrics) word(verb string, err error) error {
	if err != nil {
		return fmt.Errorf("%s metrics of the routes by %q: %w", verb, s.Link, err)
	}
	return nil
}

// Holds reports true: what another program did to the routes meanwhile stands.
func (s RaiseMetrics) Holds(Kernel) (bool, error) { return true, nil }

func (s RaiseMetrics) String() string { return s.commands(s.swaps(true)) }

// UndoString is the command Undo equals.
func (s RaiseMetrics) UndoString() string { return s.commands(s.swaps(false)) }

// Swap puts a route in another's place.
type Swap struct {
	Old, New Raw
	First    bool // it goes before a like one by another link
}

// swaps are in the order in which each gateway is reached by a route before it.
func (s RaiseMetrics) swaps(raise bool) []Swap {
	var list []Swap
	for _, m := range s.Held.inOrder() {
		was, raised := m.plain(), m.withMetric(m.metric()+raisedBy).Raw
		if raise {
			list = append(list, Swap{Old: was, New: raised})
		} else {
			list = append(list, Swap{Old: route{raised}.plain(), New: m.over(0, 0).Raw, First: m.first})
		}
	}
	return list
}

func (s RaiseMetrics) commands(swaps []Swap) string {
	name := func(int) string { return s.Link }
	var add, del []string
	for _, w := range swaps {
		verb := "append"
		if w.First {
			verb = "prepend"
		}
		r := route{w.New}
		ip := "ip " + familyFlag(r.family()) + "route "
		add = append(add, ip+verb+" "+r.words(name))
		del = append(del, ip+"del "+route{w.Old}.words(name))
	}
	slices.Reverse(del)
	return strings.Join(append(add, del...), "\n")
}

// withMetric is the route with another metric, as the kernel takes it.
func (r route) withMetric(metric uint32) route {
	out := r.over(0, 0)
	return route{out.edited(bodyKind, func(a attr) (attr, bool) { return a, a.kind != unix.RTA_PRIORITY }, attr{unix.RTA_PRIORITY, u32(metric)})}
}

// alike reports whether two routes are the same, in whatever order they are told.
func (r route) alike(o route) bool { return bytes.Equal(r.ordered(), o.ordered()) }

func (r route) ordered() Raw {
	plain := r.plain()
	list := plain.attrs(bodyKind)
	slices.SortStableFunc(list, func(a, b attr) int { return int(a.kind) - int(b.kind) })
	out := slices.Clone(plain[:bodyKind])
	for _, a := range list {
		out = appendAttr(out, a)
	}
	return out
}

// raisable leaves out of the holdings what is not to be raised.
func (h Holdings) raisable() Holdings {
	out := Holdings{Index: h.Index, Since: h.Since}
	for i, r := range h.routes() {
		advertised := r.family() == unix.AF_INET6 && r.gateway().IsValid() && r.expires() != 0
		elsewhere := slices.ContainsFunc(r.hops(), func(p hop) bool { return p.index != h.Index })
		local := r.dst().Addr().IsLinkLocalUnicast() || r.dst().Addr().IsMulticast()
		if r.class() != unix.RTN_UNICAST || r.metric() >= raisedBy || advertised || elsewhere || local || r.strange() {
			continue
		}
		out.Routes, out.First = append(out.Routes, r.Raw), append(out.First, h.First[i])
	}
	return out
}

// Yields reports whether the network's routes were raised, and not yet restored.
func (j *Journal) Yields() bool {
	return slices.ContainsFunc(j.Added, func(s Step) bool {
		_, ok := s.(RaiseMetrics)
		return ok
	})
}

// Restore undoes what Yields tells of. The journal is to be written after it.
func (j *Journal) Restore(k Kernel) error {
	var errs []error
	j.Added = slices.DeleteFunc(j.Added, func(s Step) bool {
		raised, ok := s.(RaiseMetrics)
		if !ok {
			return false
		}
		err := raised.Undo(k)
		errs = append(errs, err)
		return err == nil
	})
	return errors.Join(errs...)
}
