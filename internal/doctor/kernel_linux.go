package doctor

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/kernel"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// kernelChecks are about what a network consists of. Each part is made in a network
// namespace of its own: that a module is there says little (F53).
var kernelChecks = []Check{
	{Name: "rights", Modes: all, Run: checkRights},
	{Name: "tun", Modes: all, Run: checkTun},
	{Name: "bridge", Modes: all, Run: func(ctx context.Context, h *Host) []Finding {
		s := h.tried(ctx)
		return s.finding(h, s.bridge, "a bridge was made in a namespace of its own")
	}},
	{Name: "nftables", Modes: all, Run: checkNFTables},
	{Name: "sysctls", Modes: all, Run: checkSysctls},
}

func checkRights(ctx context.Context, h *Host) []Finding {
	if !h.admin {
		return one(Warn, "sudo qnet run; or mode = \"user\"", "uid %d without CAP_NET_ADMIN: filters, taps and namespaces cannot be checked", os.Getuid())
	}
	if len(h.missing) > 0 {
		return one(Fail, "in a container: --cap-add "+strings.TrimPrefix(h.missing[0], "CAP_"), "uid %d without %s", os.Getuid(), h.missing[0])
	}
	return one(Pass, "", "uid %d with CAP_NET_ADMIN", os.Getuid())
}

// scratch holds what came of making one of each part.
type scratch struct {
	err         error // a namespace cannot be made
	tap, bridge error
	table       error
	trace       error // a table of the bridge family
	owned       bool  // another program cannot delete the table
}

// tried makes one of each part, once.
func (h *Host) tried(ctx context.Context) *scratch {
	if h.scratch == nil {
		h.scratch = &scratch{}
		done := make(chan struct{})
		go func() {
			defer close(done)
			// The thread is not unlocked, so it ends with the goroutine, and the
			// namespace ends with it.
			runtime.LockOSThread()
			if h.scratch.err = unix.Unshare(unix.CLONE_NEWNET); h.scratch.err == nil {
				h.scratch.try(ctx)
			}
		}()
		<-done
	}
	return h.scratch
}

func (s *scratch) try(ctx context.Context) {
	k, err := kernel.New()
	if err != nil {
		s.tap, s.bridge, s.table, s.trace = err, err, err, err
		return
	}
	defer k.Close()
	s.tap = k.AddTap(ctx, "qndoctor0", "qnet:doctor/doctor/0", host.DefaultMTU)
	s.bridge = k.AddBridge(ctx, step.AddBridge{Name: "qn-doctor", MAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}, MTU: host.DefaultMTU, Alias: "qnet:doctor"})
	table := nft.Table{Family: nft.INet, Name: "qnet_doctor", Comment: "qnet:doctor", Chains: []nft.Chain{
		{Name: "through_host", Type: "filter", Hook: nft.Forward, Policy: nft.Accept, Rules: []nft.Rule{
			{OutLink: nft.Link("qn-doctor"), Established: true, Do: nft.Accept},
			{InLink: nft.Link("qn-doctor"), SYN: true, Do: nft.ClampMSS},
		}},
		{Name: "masquerade_guests", Type: "nat", Hook: nft.Postrouting, Priority: 100, Policy: nft.Accept, Rules: []nft.Rule{
			{OutLink: nft.NotLink("qn-doctor"), TCPUDP: true, Do: nft.MasqueradePorts},
		}},
	}}
	s.table = k.AddTable(ctx, table)
	s.trace = k.AddTable(ctx, nft.Table{Family: nft.Bridge, Name: "qnet_doctor", Comment: "qnet:doctor", Chains: []nft.Chain{
		{Name: "from_guest", Type: "filter", Hook: nft.Prerouting, Policy: nft.Accept, Rules: []nft.Rule{{InLink: nft.Link("qndoctor0"), Do: nft.TracePacket}}},
	}})
	if another, err := kernel.New(); err == nil && s.table == nil {
		s.owned = errors.Is(another.DelTable(ctx, table), unix.EPERM)
		another.Close()
	}
}

// finding is the finding about one part.
func (s *scratch) finding(h *Host, err error, made string) []Finding {
	switch {
	case errors.Is(s.err, unix.EPERM):
		return one(Unseen, "sudo qnet doctor", "only root can make a namespace to try it in")
	case s.err != nil:
		return one(Fail, "", "make a network namespace: %s", s.err)
	case err != nil:
		return one(Fail, h.kernelRemedy(err), "%s", err)
	}
	return one(Pass, "", "%s", made)
}

// kernelRemedy is what to do about a part that cannot be made: a kernel may have been
// upgraded, may lack a module, or may be that of a container's host.
func (h *Host) kernelRemedy(err error) string {
	var name unix.Utsname
	if unix.Uname(&name) == nil && !h.has("lib/modules/"+unix.ByteSliceToString(name.Release[:])) && h.container() == "" {
		return "reboot: the modules of the running kernel are gone, so it was upgraded"
	}
	switch {
	case errors.Is(err, host.ErrNoTun):
		return "modprobe tun; in a container: --device /dev/net/tun --cap-add NET_ADMIN"
	case errors.Is(err, host.ErrNoPermission), errors.Is(err, unix.EPERM):
		return "in a container: --cap-add NET_ADMIN --device /dev/net/tun; else run it with sudo"
	case errors.Is(err, host.ErrUnsupported):
		return "modprobe bridge nf_tables; or use a distribution's kernel"
	}
	return ""
}

func checkTun(ctx context.Context, h *Host) []Finding {
	f, err := kernel.OpenTun()
	switch {
	case errors.Is(err, host.ErrNoTun):
		return one(Fail, h.kernelRemedy(err), "%s", err)
	case err != nil:
		return one(Unseen, "sudo qnet doctor", "%s", err)
	}
	f.Close()
	s := h.tried(ctx)
	return s.finding(h, s.tap, "a tap was made in a namespace of its own")
}

func checkNFTables(ctx context.Context, h *Host) []Finding {
	s := h.tried(ctx)
	list := s.finding(h, s.table, "filter and masquerade rules load, and no other program can flush them (owner flag)")
	if list[0].Status != Pass {
		return list
	}
	if !s.owned {
		list = one(Warn, "a kernel from 6.10 has it; until then avoid `nft flush ruleset` while VMs run",
			"the kernel has no owner flag: when another program flushes the rules, guests have none for up to 2 s")
	}
	if s.trace != nil {
		list = append(list, one(Warn, h.kernelRemedy(s.trace), "no rules of the bridge family (%s): a probe cannot say where a packet vanishes", s.trace)...)
	}
	return list
}

func checkSysctls(_ context.Context, h *Host) []Finding {
	switch {
	case h.facts.NoSysctls != "":
		return one(Fail, "in a container: --privileged, or --security-opt systempaths=unconfined", "%s, so a bridge cannot be set up", h.facts.NoSysctls)
	case !h.admin:
		return one(Unseen, "sudo qnet doctor", "only root can say whether /proc/sys can be written")
	}
	return one(Pass, "", "/proc/sys can be written (ip_forward is %s, and stays so)", h.sysctl("ipv4/ip_forward"))
}
