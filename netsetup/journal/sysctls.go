package journal

import (
	"slices"

	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// OriginalSysctls returns a function that puts the host's own values into sysctls just read:
// those from before the other networks of the run directory changed them. It is host.Query's
// Original.
func OriginalSysctls(n rundir.Network) func(sysctls map[string]string) {
	return func(sysctls map[string]string) {
		for _, s := range otherSysctls(n) {
			wanted := s.Wider != "" && sysctls[s.Wider] == s.Value // another program wants our value by now
			if sysctls[s.Key] == s.Value && !wanted {
				sysctls[s.Key] = s.Old
			}
		}
	}
}

// SetUpByOthers returns the links of the host's that other networks of the run directory have
// set up. It is plan.Options' SetUp.
func SetUpByOthers(n rundir.Network) []string {
	var links []string
	for _, s := range step.All[step.SetUp](otherSteps(n)) {
		if s.Restore {
			links = append(links, s.Link)
		}
	}
	return links
}

// WithoutShared returns the steps without those that change something of the host's which
// another network of the run directory still needs changed, a sysctl or a link that was down:
// that network puts it back.
func WithoutShared(steps step.List, n rundir.Network) step.List {
	shared := map[step.Step]bool{}
	for _, s := range otherSteps(n) {
		if what, ok := ofHost(s); ok {
			shared[what] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(steps), func(s step.Step) bool {
		what, ok := ofHost(s)
		return ok && shared[what]
	})
}

// ofHost returns what of the host's a step changes that several networks may need, as a step
// without values. ok is false for other steps.
func ofHost(s step.Step) (what step.Step, ok bool) {
	switch s := s.(type) {
	case step.SetSysctl:
		return step.SetSysctl{Key: s.Key}, s.Old != ""
	case step.SetUp:
		return s, s.Restore
	}
	return nil, false
}

// otherSysctls are the host's sysctls that the journals of other networks changed.
func otherSysctls(n rundir.Network) []step.SetSysctl {
	return slices.DeleteFunc(step.All[step.SetSysctl](otherSteps(n)), func(s step.SetSysctl) bool { return s.Old == "" })
}

// otherSteps are the steps of the other networks in this network namespace.
func otherSteps(n rundir.Network) step.List {
	networks, _ := rundir.Networks(n.RunDir) // without the directory there are none
	ns, _ := host.NetNS()
	var links []host.Link
	var found step.List
	for _, other := range networks {
		if other.Name == n.Name {
			continue
		}
		j, err := Read(other.Journal())
		if err != nil || j.NetNS != ns {
			continue
		}
		if links == nil {
			links, _ = host.ReadLinks() // else the old names stand
		}
		j.Follow(links)
		found = append(found, j.Steps()...)
	}
	return found
}
