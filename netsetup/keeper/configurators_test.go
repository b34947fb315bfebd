package keeper_test

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/vishvananda/netlink"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lab/programs"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/profiles"
)

// firstLink reports whether the file was there when the first of qnet's links
// appeared, as soon as one has.
func firstLink(t *testing.T, path string) (was <-chan bool) {
	t.Helper()
	updates, done, answer := make(chan netlink.LinkUpdate, 64), make(chan struct{}), make(chan bool, 1)
	if err := netlink.LinkSubscribe(updates, done); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(done) })
	go func() {
		for u := range updates {
			if strings.HasPrefix(u.Attrs().Name, "qn") {
				_, err := os.Stat(path)
				answer <- err == nil
				return
			}
		}
	}()
	return answer
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// Networks of two run directories share the file. The last one removes it, even if its
// keeper was killed.
func sharesFile(t *testing.T, o Options, p managers.Program, managed func() string) {
	t.Helper()
	f, _ := managers.LeaveAlone(p)
	was := firstLink(t, f.Path)
	other := o
	other.RunDir += "2"
	web := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
	if !<-was {
		t.Errorf("%s knew of a link before it was told to leave it alone", p)
	}
	db := mustJoin(t, other, Network{Name: "lab", Mode: profiles.Private}, "db", port(2))
	lab.Eventually(t, 5*time.Second, "the links in "+string(p), func() bool { return strings.Count(managed(), "unmanaged") == 4 })
	time.Sleep(time.Second) // time to take an address away
	lab.Sh(t, "ip -4 addr show dev qn-dev | grep -q 'inet 10.77.0.1/24'; test $(ip -4 -o addr show dev qn-dev | wc -l) = 1")
	mustLeave(t, db)
	if !exists(f.Path) {
		t.Errorf("the first network that ended removed %s", f.Path)
	}
	killBoth(t, web)
	if _, err := Collect(t.Context(), o); err != nil {
		t.Error(err)
	}
	if exists(f.Path) {
		t.Errorf("%s is left", f.Path)
	}
}

// everything is a configuration that takes every link for its own.
const everything = "[Match]\nName=*\n[Network]\nDHCP=yes\nAddress=10.66.0.1/24\n"

func TestNetworkdLeavesLinksAlone(t *testing.T) {
	lab.Require(t, programs.NetworkdNeeds...)
	beside(t, func(t *testing.T) {
		programs.Networkd(t, map[string]string{
			"00-all.network": everything,
			"0-lab.network":  "[Match]\nName=eth0 lo\n[Link]\nUnmanaged=yes\n",
		}, false)
		lab.Sh(t, "ip link add foreign type veth peer name foreign1; ip link set foreign up; ip link set foreign1 up")
		lab.Eventually(t, 10*time.Second, "networkd takes a link for its own", func() bool {
			addrs, _ := lab.Try("ip -4 addr show dev foreign")
			return strings.Contains(addrs, "10.66.0.1")
		})
		lab.Sh(t, "ip link del foreign")
	}, func(t *testing.T, o Options) {
		sharesFile(t, o, managers.Networkd, func() string {
			out, _ := lab.Try("networkctl --no-legend --no-pager list 'qn*'")
			return out
		})
	})
}

func TestNetworkManagerLeavesLinksAlone(t *testing.T) {
	lab.Require(t, programs.NetworkManagerNeeds()...)
	for name, config := range map[string]string{
		"default": "",
		// An administrator's own list replaces ours.
		"list": "[keyfile]\nunmanaged-devices=interface-name:wlan*\n",
	} {
		t.Run(name, func(t *testing.T) {
			state := func(link string) string {
				out, _ := programs.NMCLI("-t -f DEVICE,STATE device | grep ^" + link)
				return out
			}
			beside(t, func(t *testing.T) {
				programs.NetworkManager(t, config)
				lab.Sh(t, "ip link add foreign type bridge; ip addr add 10.55.0.1/24 dev foreign; ip link set foreign up")
				lab.Eventually(t, 10*time.Second, "NetworkManager takes a bridge for its own", func() bool {
					return strings.Contains(state("foreign"), ":connected")
				})
				lab.Sh(t, "ip link del foreign")
			}, func(t *testing.T, o Options) {
				sharesFile(t, o, managers.NetworkManager, func() string { return state("qn") })
				if exists("/run/NetworkManager/conf.d") {
					t.Error("the directory is left, which was not there before")
				}
			})
		})
	}
}

// The keeper does not replace a file that another program put in the place of ours.
func TestForeignConfigFile(t *testing.T) {
	f, _ := managers.LeaveAlone(managers.Networkd)
	lab.Require(t, programs.NetworkdNeeds...)
	foreign := "[Match]\nName=qn-other\n[Link]\nUnmanaged=yes\n"
	beside(t, func(t *testing.T) {
		programs.Networkd(t, map[string]string{"0-qnet.network": foreign}, false)
	}, func(t *testing.T, o Options) {
		_, err := Join(t.Context(), o, Network{Name: "dev", Mode: profiles.Private}, "web", port(1))
		if err == nil || !strings.Contains(err.Error(), f.Path) {
			t.Errorf("got %v, want an error that names %s", err, f.Path)
		}
		if text, err := os.ReadFile(f.Path); err != nil || string(text) != foreign {
			t.Errorf("the file holds %q, %v", text, err)
		}
	})
}

// The keeper tells the user which program it cannot tell to leave links alone. It
// ignores programs on the bus of another network namespace.
func TestConnManAdvice(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		lab.Bus(t)
		bus, err := dbus.ConnectSystemBus()
		if err != nil {
			t.Fatal(err)
		}
		defer bus.Close()
		for _, name := range []string{"net.connman", "org.freedesktop.network1"} {
			if reply, err := bus.RequestName(name, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
				t.Fatal(reply, err)
			}
		}
		told := &notes{}
		o.Note = told.add
		mustLeave(t, mustJoin(t, o, Network{Name: "dev", Mode: profiles.Private}, "web", port(1)))
		if !slices.ContainsFunc(told.texts, func(s string) bool { return strings.Contains(s, "NetworkInterfaceBlacklist") }) {
			t.Errorf("told %q", told.texts)
		}
		lab.InNamespace(t, "inet", func() error {
			if running := managers.Running(t.Context()); len(running) != 0 {
				t.Errorf("in another namespace: %v", running)
			}
			return nil
		})
	})
}
