package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// macvtap gives what a guest needs: its frames, in both directions and with a
// header for offloads, unicast and any multicast.
func TestMacvtapCarriesFrames(t *testing.T) {
	lab.Require(t, lab.Root)
	lab.Run(t, func(t *testing.T) {
		lab.Uplink(t)
		before := lab.Snapshot(t)
		machine := newHost(t)
		last := foreignDevices(t)
		change := step.AddMacvtap{Name: "qnweb0", Uplink: "eth0", MAC: hosttest.GuestMAC, Alias: "qnet:lan/web/0"}
		if err := apply.Do(t.Context(), machine.Kernel(), []step.Step{change, step.SetUp{Link: "qnweb0"}}, nil); err != nil {
			t.Fatal(err)
		}
		guest := machine.TakeTap("qnweb0")
		defer guest.Close()
		if l, _, _ := machine.Link(t.Context(), "qnweb0"); l.Index <= last {
			t.Errorf("index %d, whose device is another namespace's up to %d", l.Index, last)
		}
		if got, err := tapFlags(guest); err != nil || got&unix.IFF_VNET_HDR == 0 {
			t.Errorf("flags %#x, %v", got, err)
		}
		for _, to := range []string{hosttest.GuestMAC.String(), "ff:ff:ff:ff:ff:ff", "33:33:ff:12:34:56", "01:00:5e:7f:00:01"} {
			if !hears(t, guest, to) {
				t.Errorf("the guest does not hear what goes to %s", to)
			}
		}
		if hears(t, guest, "52:54:00:99:99:99") {
			t.Error("the guest hears what goes to another")
		}
		// As ours and marked, it goes; unmarked, too, by its MAC; another's stays.
		lab.Sh(t, "ip link set qnweb0 alias ''")
		if err := apply.Undo(t.Context(), machine.Kernel(), []step.Step{change}); err != nil {
			t.Error(err)
		}
		before.Check(t)
		lab.Sh(t, "ip link add link eth0 name qnweb0 type macvtap mode bridge")
		if err := apply.Do(t.Context(), machine.Kernel(), []step.Step{change}, nil); !errors.Is(err, host.ErrNotOurs) {
			t.Errorf("got %v", err)
		}
		if err := apply.Undo(t.Context(), machine.Kernel(), []step.Step{change}); err != nil {
			t.Error(err)
		}
		lab.Sh(t, "ip link del qnweb0; ip link add br0 type bridge; ip link set eth0 master br0")
		if err := apply.Do(t.Context(), machine.Kernel(), []step.Step{change}, nil); !errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), "EBUSY") {
			t.Errorf("on a port: got %v", err)
		}
		lab.Sh(t, "ip link del br0")
		before.Check(t)
	})
}

// foreignDevices makes macvtap links in another namespace with the indexes that ours would
// get. Their /dev/tapN are in the way: devtmpfs has no namespaces. It returns the last index.
func foreignDevices(t *testing.T) (last int) {
	t.Helper()
	lab.Sh(t, "ip netns add other; ip -n other link add e0 index 1000 type veth peer name e1 index 1001; ip link add probe0 type bridge")
	t.Cleanup(func() { lab.Try("ip netns del other") })
	probe, err := net.InterfaceByName("probe0")
	if err != nil {
		t.Fatal(err)
	}
	lab.Sh(t, "ip link del probe0")
	last = probe.Index + 4
	for i := probe.Index + 1; i <= last; i++ {
		lab.Sh(t, fmt.Sprintf("ip -n other link add link e0 name m%d index %d type macvtap mode bridge; ls /dev/tap%d", i, i, i))
	}
	return last
}

func tapFlags(f *os.File) (uint16, error) {
	req, err := unix.NewIfreq("")
	if err != nil {
		return 0, err
	}
	err = unix.IoctlIfreq(int(f.Fd()), unix.TUNGETIFF, req)
	return req.Uint16(), err
}

// hears sends a frame from the LAN to a MAC and reports whether it arrives.
func hears(t *testing.T, guest *os.File, to string) bool {
	t.Helper()
	mac, err := net.ParseMAC(to)
	if err != nil {
		t.Fatal(err)
	}
	frame := slices.Concat(mac, net.HardwareAddr{2, 0, 0, 0, 0, 0xaa}, []byte{0x88, 0xb5}, []byte(to), make([]byte, 40)) // IEEE 802 local experiments
	lab.InNamespace(t, "inet", func() error {
		link, err := net.InterfaceByName("lan0")
		if err != nil {
			return err
		}
		c, err := packet.Listen(link.Index, packet.All, nil)
		if err != nil {
			return err
		}
		defer c.Close()
		return c.Write(frame)
	})
	guest.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	for b := make([]byte, 2000); ; {
		n, err := guest.Read(b)
		if err != nil {
			return false
		}
		if bytes.Contains(b[:n], frame) && n == len(frame)+vnetHeader {
			return true
		}
	}
}

// vnetHeader is the length of struct virtio_net_hdr (linux/virtio_net.h).
const vnetHeader = 10
