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

// WithoutShared returns the steps without those that set sysctls of the host's which another
// network of the run directory still needs: that network puts the values back.
func WithoutShared(steps step.List, n rundir.Network) step.List {
	shared := map[string]bool{}
	for _, s := range otherSysctls(n) {
		shared[s.Key] = true
	}
	return slices.DeleteFunc(slices.Clone(steps), func(s step.Step) bool {
		sysctl, ok := s.(step.SetSysctl)
		return ok && sysctl.Old != "" && shared[sysctl.Key]
	})
}

// otherSysctls are the host's sysctls that the journals of other networks changed, in this
// network namespace.
func otherSysctls(n rundir.Network) []step.SetSysctl {
	networks, _ := rundir.Networks(n.RunDir) // without the directory there are none
	ns, _ := host.NetNS()
	var links []host.Link
	var found []step.SetSysctl
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
		for _, s := range step.All[step.SetSysctl](j.Steps()) {
			if s.Old != "" {
				found = append(found, s)
			}
		}
	}
	return found
}
