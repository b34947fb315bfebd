package journal

import (
	"context"
	"errors"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// Identify notes what tells the plan's uplinks from other links: their names may change while
// the network runs. The caller writes the journal.
func (j *Journal) Identify(links []host.Link) {
	for _, name := range slices.Concat(j.Plan.Uplinks, j.Plan.Beside) {
		known := slices.ContainsFunc(j.Links, func(id host.Identity) bool { return id.Name == name })
		i := slices.IndexFunc(links, func(l host.Link) bool { return l.Name == name && !l.Ours() })
		if !known && i >= 0 {
			j.Links = append(j.Links, links[i].Identity())
		}
	}
}

// Follow gives the journal the names that its uplinks have by now. Where an uplink is gone and
// another link has come in its place, the steps for its forwarding go as well: the kernel
// forgot that with the link, and the new one has a value of its own. Follow reports whether
// the journal changed. The caller writes it, or follows again the next time that it is read.
func (j *Journal) Follow(links []host.Link) (changed bool) {
	names := map[string]string{}
	var gone []string
	var now []host.Identity
	found := host.FindLinks(j.Links, links)
	for i, id := range j.Links {
		f := found[i]
		if f.Remade || !f.OK && slices.ContainsFunc(found, func(o host.Found) bool { return o.OK && o.Link.Name == id.Name }) {
			gone = append(gone, id.Name)
		}
		switch {
		case f.OK:
			if f.Link.Name != id.Name {
				names[id.Name] = f.Link.Name
			}
			same := f.Link.Identity()
			same.Planned = id.Planned
			now = append(now, same)
		case !slices.Contains(gone, id.Name): // else another uplink has its name by now
			now = append(now, id)
		}
	}
	changed = !slices.EqualFunc(now, j.Links, host.Identity.Same)
	j.Links = now
	if len(gone) > 0 {
		j.forget(gone)
	}
	if len(names) > 0 {
		j.rename(names)
	}
	return changed
}

// FollowLinks is Follow by the links that there are now.
func (j *Journal) FollowLinks(ctx context.Context, k step.Kernel) (changed bool, err error) {
	if len(j.Links) == 0 { // an older qnet wrote it, or the network has no uplinks
		return false, nil
	}
	links, err := k.ListLinks(ctx)
	return err == nil && j.Follow(links), err
}

// forget drops what a nat network did to uplinks that are gone. They may become uplinks anew.
func (j *Journal) forget(names []string) {
	of := func(s step.Step) bool {
		sysctl, ok := s.(step.SetSysctl)
		link, is := plan.UplinkOf(sysctl)
		if link6, is6 := plan.Uplink6Of(sysctl); is6 {
			link, is = link6, is6
		}
		return ok && is && slices.Contains(names, link)
	}
	j.Plan.Steps = slices.DeleteFunc(slices.Clone(j.Plan.Steps), of)
	j.Added = slices.DeleteFunc(slices.Clone(j.Added), of)
	if j.Plan.HasForwarding() {
		gone := func(l string) bool { return slices.Contains(names, l) }
		j.Plan.Uplinks = slices.DeleteFunc(slices.Clone(j.Plan.Uplinks), gone)
		j.Plan.Beside = slices.DeleteFunc(slices.Clone(j.Plan.Beside), gone)
	}
}

// rename puts new names of links in place of old ones. It changes no list in place: the
// keeper's tasks read the old ones.
func (j *Journal) rename(names map[string]string) {
	j.Plan = j.Plan.Renamed(names)
	j.Added = step.Renamed(j.Added, names)
	ports := make(map[string]step.List, len(j.Ports))
	for vm, steps := range j.Ports {
		ports[vm] = step.Renamed(steps, names)
	}
	j.Ports = ports
}

// Calls reports whether a profile may call the plan's uplink so: by the name that it has, or
// by one that it had when the network was planned and that no link has now.
func (j *Journal) Calls(ctx context.Context, k step.Kernel, uplink string) (bool, error) {
	have := j.Plan.Network
	if have.Uplink == uplink || have.Uplink == "" {
		return have.Uplink == uplink, nil
	}
	l, ok, err := k.Link(ctx, uplink)
	if ok || err != nil {
		return l.Name == have.Uplink, err
	}
	was := slices.ContainsFunc(j.Links, func(id host.Identity) bool { return id.Name == have.Uplink && id.Planned == uplink })
	return was || have.Asked == uplink, nil
}

// RestoreNames gives the network's own links, found by their marks, the names that qnet made
// them with, where another program renamed them: steps and rules know them by these. It tries
// all of them and returns all errors.
func RestoreNames(ctx context.Context, k step.Kernel, network string) (renamed bool, err error) {
	links, err := k.ListLinks(ctx)
	if err != nil {
		return false, err
	}
	var errs []error
	for _, l := range links {
		want := ownName(l, network)
		taken := slices.ContainsFunc(links, func(o host.Link) bool { return o.Called(want) })
		if want == "" || taken {
			continue
		}
		renamed = true
		errs = append(errs, k.Rename(ctx, l.Name, want))
	}
	return renamed, errors.Join(errs...)
}

// ownName is the name that qnet made the link with; "" for a link that is none of the network's.
func ownName(l host.Link, network string) string {
	if l.Kind == "bridge" && l.Alias == host.NetworkMark(network) {
		return host.BridgeName(network)
	}
	of, vm, nic, ok := host.ParsePortMark(l.Alias)
	if !ok || of != network {
		return ""
	}
	return host.TapName(vm, nic)
}
