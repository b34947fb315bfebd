package server

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lockfile"
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/dhcp"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/keeper/upkeep"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step/steptest"
	"github.com/qnet-vm/qnet/profiles"
)

// memory is a machine whose taps are made of any files.
type memory struct {
	*steptest.Memory
}

func (m memory) Link(ctx context.Context, name string) (host.Link, bool, error) {
	return m.Kernel().Link(ctx, name)
}
func (memory) GiveTap(context.Context, string, []*os.File) error { return nil }
func (memory) TakeTap(string) *os.File                           { return nil }
func (memory) Close() error                                      { return nil }

// attacked is a keeper of network "dev" that strangers may speak to. VM "stay" is on the network,
// and VM "gone" had a keeper before this one.
type attacked struct {
	*server
	base   string // of all files; the run directory is host/run
	host   *steptest.Memory
	before map[string]string // the host without the network
	ended  chan struct{}
}

var stayMAC, goneMAC = net.HardwareAddr{2, 0, 0, 0, 1, 1}, net.HardwareAddr{2, 0, 0, 0, 1, 2}

func attack(t *testing.T, mode profiles.Mode) *attacked {
	t.Helper()
	base, err := os.MkdirTemp("", "qf") //nolint:usetesting // t.TempDir's path may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	run := filepath.Join(base, "host", "run")
	for _, file := range []string{"victim/file", "host/file", "file", "state/salt"} {
		path := filepath.Join(base, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(file), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	facts := hosttest.Laptop()
	a := &attacked{base: base, host: steptest.Of(facts), ended: make(chan struct{})}
	a.before = maps.Clone(a.host.State)
	n := plan.Network{Name: "dev", Mode: mode}
	if mode.HasSubnet() {
		n.Subnet = netip.MustParsePrefix("10.77.0.0/24")
	}
	planned, err := plan.New(n, facts, plan.Options{Salt: hosttest.Salt})
	if err != nil {
		t.Fatal(err)
	}
	a.server = newServer(rundir.Network{RunDir: run, Name: "dev"}, filepath.Join(base, "state"), keeper.Spec{Network: n})
	a.log, a.server.host, a.upkeep = slog.New(slog.DiscardHandler), memory{a.host}, &upkeep.Tasks{}
	if a.life, err = lockfile.Try(a.place.KeeperLock()); err == nil {
		err = a.place.Make()
	}
	if err == nil {
		a.journal, err = journal.New(planned)
	}
	if err == nil {
		err = apply.Do(t.Context(), a.host.Kernel(), planned.Steps, nil)
	}
	if err == nil && mode.HasSubnet() {
		a.dhcp, err = dhcp.New(dhcp.Config{Prefix: planned.Prefix, Address: planned.Gateway})
	}
	if err == nil {
		err = errors.Join(a.join("stay", stayMAC, false), a.join("gone", goneMAC, true), a.listen(context.Background()))
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(a.ended)
		a.serve(context.Background(), nil)
	}()
	return a
}

// join puts a VM with one NIC on the network.
func (a *attacked) join(vm string, mac net.HardwareAddr, away bool) error {
	m := &member{away: away, cancel: func() {}}
	_, err := a.connect(context.Background(), keeper.Request{VM: vm, Ports: []keeper.PortRequest{{MAC: mac}}}, m)
	a.vms[vm], a.joined = m, true
	if away {
		m.ports = nil
		a.host.State["open "+host.TapName(vm, 0)] = "yes"
	}
	return err
}

// say sends messages, the files with the first, and reads the answers until the keeper hangs up.
func (a *attacked) say(t *testing.T, messages [][]byte, files int) {
	t.Helper()
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: a.place.Socket(), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	var fds []*os.File
	for range files {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fds = append(fds, f)
	}
	for _, m := range messages {
		if len(m) > 0 { // an empty message is the connection's end
			sendRaw(c, m, fds)
		}
		fds = nil
	}
	c.CloseWrite()
	for b := make([]byte, 1<<20); ; {
		if n, err := c.Read(b); n == 0 || err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the keeper does not end the connection")
			}
			return
		}
	}
}

// tree lists the files outside of the run directory.
func (a *attacked) tree(t *testing.T) string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(a.base, func(path string, d fs.DirEntry, err error) error {
		if err == nil && path == a.place.RunDir {
			return filepath.SkipDir
		}
		list = append(list, path)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return strings.Join(list, "\n")
}

// ours are the links, and the files of the run directory, that a keeper makes.
var (
	ourLink = regexp.MustCompile(`^(qn-dev|qn[a-z][a-z0-9-]{0,12}[0-9a-f])$`)
	ourFile = regexp.MustCompile(`^(locks(/(plan|(vm|net|start)-[a-z][a-z0-9-]{0,30}))?|vms(/[a-z][a-z0-9-]{0,30})?|` +
		`networks(/dev(/(keeper\.sock|journal\.json(\.new)?))?)?)$`)
)

// checkOurs checks that nothing has a name that no VM may have.
func (a *attacked) checkOurs(t *testing.T) {
	t.Helper()
	a.changes.lock(t.Context())
	defer a.changes.unlock()
	for key := range a.host.State {
		name, link := strings.CutPrefix(key, "link ")
		if _, there := a.before[key]; link && !there && !ourLink.MatchString(name) {
			t.Errorf("a link %q", name)
		}
	}
	for vm := range a.journal.Ports {
		if !profiles.ValidName(vm) {
			t.Errorf("VM %q in the journal", vm)
		}
	}
	filepath.WalkDir(a.place.RunDir, func(path string, _ fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(a.place.RunDir, path); err == nil && rel != "." && !ourFile.MatchString(rel) {
			t.Errorf("a file %q", rel)
		}
		return nil
	})
	if stay := a.vms["stay"]; stay == nil || len(stay.ports) != 1 || !slices.Equal(stay.ports[0].MAC, stayMAC) {
		t.Errorf("VM stay has lost its port: %+v", stay)
	}
	if _, there := a.host.State["link "+host.TapName("stay", 0)]; !there {
		t.Error("VM stay has lost its tap")
	}
}

// FuzzSocket sends any messages and files to a keeper's socket. Nothing outside of the run
// directory changes, nothing gets a name that no VM may have, other VMs keep their ports, and
// the end undoes everything.
func FuzzSocket(f *testing.F) {
	join := `{"version":1,"op":"join","netns":"` + netNS(f) + `","network":{"name":"dev","mode":"nat"},"vm":"web","ports":[{"nic":0,"mac":"AgAAAAAB"}]}`
	rejoin := `{"version":1,"op":"rejoin","network":{"name":"dev","mode":"nat"},"vm":"gone","held":[{"nic":0,"tap":"qngone0","mac":"AgAAAAEC","address":"10.77.0.9"}]}`
	edit := func(s string, oldNew ...string) []byte { return []byte(strings.NewReplacer(oldNew...).Replace(s)) }
	for _, seed := range [][]byte{
		[]byte(join), []byte(rejoin), []byte(join + "\n" + `{"op":"ending"}` + "\n" + `{"op":"leave"}`),
		// Hanging up then made the keeper remove a directory outside of its own.
		[]byte(`{"op":"join","vm":"../../../victim","ports":[]}`),
		edit(join, `"web"`, `"../../../victim"`), edit(join, `"web"`, `"web/../../../../victim"`), edit(join, `"web"`, `"."`),
		edit(join, `"dev"`, `"../../../victim"`), edit(rejoin, `"gone"`, `"../../../victim"`), edit(rejoin, "qngone0", "eth0"),
		edit(join, `"nic":0`, `"nic":-1`), edit(join, `"nic":0`, `"nic":1000000`), edit(join, "AgAAAAAB", "AQAAAAAB"),
		edit(join, "AgAAAAAB", "AgAA"), edit(join, "AgAAAAAB", "AgAAAAEB"), edit(join, `"nic":0`, `"nic":0,"queues":-7`),
		edit(join, `"nic":0`, `"nic":0,"queues":2`), edit(join, `"nic":0`, `"nic":0,"address":"10.77.0.1"`),
		edit(join, `"nic":0`, `"nic":0,"address":"::1"`), edit(join, `"nic":0`, `"nic":0,"trace":["10.0.0.1","::1",""]`),
		edit(join, `"mode":"nat"`, `"mode":"nat","uplink":"../../../all"`), edit(join, `"mode":"nat"`, `"mode":"bridge","subnet":"0.0.0.0/0"`),
		// A private network has no DHCP server to reserve an address.
		edit(rejoin, `"nat"`, `"private"`), []byte(`{"op":"rejoin","vm":"gone","held":[]}`), []byte(`{"op":"leave"}`), []byte("\n"),
		[]byte(`{"op":"info"}` + "\n" + `{"op":"unknown"}` + "\n[]\nnull"),
	} {
		for mode := range uint8(3) {
			f.Add(mode, seed, mode)
		}
	}
	f.Fuzz(func(t *testing.T, mode uint8, data []byte, files uint8) {
		a := attack(t, []profiles.Mode{profiles.NAT, profiles.Private, profiles.HostOnly}[mode%3])
		defer a.stop()
		tree := a.tree(t)
		messages := bytes.Split(data, []byte("\n"))
		a.say(t, messages[:min(len(messages), 6)], int(files%4))
		a.checkOurs(t)
		a.stop()
		<-a.ended
		if now := a.tree(t); now != tree {
			t.Errorf("files before:\n%s\nafter:\n%s", tree, now)
		}
		delete(a.host.State, "open "+host.TapName("gone", 0))
		if diff := steptest.Diff(a.before, a.host.State); diff != "" || a.err != nil {
			t.Errorf("left on the host: %v\n%s", a.err, diff)
		}
	})
}

func netNS(f *testing.F) string {
	ns, err := host.NetNS()
	if err != nil {
		f.Fatal(err)
	}
	return ns
}

// sendRaw sends a message that need not be JSON. The keeper may have hung up.
func sendRaw(c *net.UnixConn, message []byte, files []*os.File) {
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	c.WriteMsgUnix(message, rights, nil)
}
