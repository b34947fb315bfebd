package clerk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/qnet-vm/qnet/netsetup/dhcp"
	"github.com/qnet-vm/qnet/netsetup/dns"
	"github.com/qnet-vm/qnet/netsetup/keeper"
)

const (
	// orderTime bounds the wait for a clerk that does not read. It is ended then.
	orderTime = time.Second
	// leasesTime bounds the wait for what a clerk says of its clients.
	leasesTime = time.Second
	// firstPause and longestPause bound the wait before the next clerk is started: the first
	// one that dies is replaced soon.
	firstPause   = 20 * time.Millisecond
	longestPause = time.Second
	// steady is how long a clerk lives whose death is a first one again.
	steady = 10 * time.Second
)

// Config is what a Clerk needs of the keeper.
type Config struct {
	Network   Network
	DHCP      *os.File    // of dhcp.Open
	DHCP6     *os.File    // of dhcp6.Open; nil of a network without IPv6
	DNS       dns.Sockets // the zero value without DNS
	DNS6      dns.Sockets // at Network.Address6; the zero value without
	LeaseFile string
	Keeper    Keeper
	Log       *slog.Logger
}

// Keeper is what a clerk's words are for. The calls come from one goroutine at a time.
type Keeper interface {
	// Kept says that a client has taken an address.
	Kept(client net.HardwareAddr, a netip.Addr) error
	// Warn tells the user something.
	Warn(text string)
	// Answered is called before a guest with a limit gets an answer: the guest reaches the addresses
	// when it returns dns.Checked.
	Answered(client net.HardwareAddr, name string, addresses []netip.Addr, ttl time.Duration) dns.Ruling
	// Refused says that a guest with a limit asked for another name.
	Refused(client net.HardwareAddr, name string)
	// Lost says that the steward is gone, so that no clerk serves any more.
	Lost(err error)
}

// Clerk has a clerk running on a network, and another when that dies. A nil *Clerk has none.
// Its methods may be called concurrently.
type Clerk struct {
	c       Config
	steward *Steward

	ctx    context.Context // done when End is called
	cancel context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex // guards what follows
	conn   *net.UnixConn
	leases map[string]lease // reserved, by MAC
	limits map[string]limit // by MAC
	asked  chan []dhcp.Lease
	told   []dhcp.Lease // the parts of an answer that came
}

// Steward is the keeper's end of the process that starts clerks.
type Steward struct{ conn *net.UnixConn }

// NewSteward makes one of the descriptor that the keeper was started with. It closes the
// file.
func NewSteward(f *os.File) (*Steward, error) {
	c, err := connOf(f)
	if err != nil {
		return nil, fmt.Errorf("find the steward of clerks: %w", err)
	}
	return &Steward{c}, nil
}

// Close ends the steward.
func (r *Steward) Close() error {
	if r == nil {
		return nil
	}
	return r.conn.Close()
}

// Start has a clerk started. It does not wait for it: messages wait in the sockets. It takes
// the files over.
func (r *Steward) Start(ctx context.Context, c Config) (*Clerk, error) {
	k := &Clerk{c: c, steward: r, done: make(chan struct{}), leases: map[string]lease{}, limits: map[string]limit{}}
	k.ctx, k.cancel = context.WithCancel(context.WithoutCancel(ctx)) // until End
	if err := k.start(); err != nil {
		k.closeFiles()
		return nil, err
	}
	go k.run()
	return k, nil
}

func (k *Clerk) closeFiles() {
	k.c.DHCP.Close()
	if k.c.DHCP6 != nil {
		k.c.DHCP6.Close()
	}
	k.c.DNS.Close()
	k.c.DNS6.Close()
}

// start has the steward start a clerk, and sends it what it is to serve.
func (k *Clerk) start() error {
	ours, theirs, err := pair()
	if err != nil {
		return fmt.Errorf("start clerk: %w", err)
	}
	defer theirs.Close()
	leases, err := os.Open(k.c.LeaseFile)
	if err != nil {
		ours.Close()
		return fmt.Errorf("start clerk: %w", err)
	}
	defer leases.Close()
	files := []*os.File{theirs, k.c.DHCP, leases}
	for _, f := range []*os.File{k.c.DHCP6, k.c.DNS.UDP, k.c.DNS.TCP, k.c.DNS6.UDP, k.c.DNS6.TCP} { // in the order of given
		if f != nil {
			files = append(files, f)
		}
	}
	if err := keeper.Send(k.steward.conn, call{Start: true}, files...); err != nil {
		ours.Close()
		return fmt.Errorf("start clerk: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ctx.Err() != nil { // End has found no connection to close
		return ours.Close()
	}
	k.conn, k.told = ours, nil
	orders := k.first()
	for i := range orders {
		orders[i].More = i+1 < len(orders)
		k.send(orders[i])
	}
	return nil
}

// first are the orders by which a clerk begins: which names guests get comes before their
// addresses. mu is held.
func (k *Clerk) first() []order {
	orders := []order{{Serve: &k.c.Network, TCP: k.c.DNS.TCP != nil, DNS6: k.c.DNS6.UDP != nil, TCP6: k.c.DNS6.TCP != nil}}
	for _, l := range k.limits {
		orders = append(orders, order{Limit: &l})
	}
	for reserved := range slices.Chunk(slices.Collect(maps.Values(k.leases)), part) {
		orders = append(orders, order{Reserve: reserved})
	}
	return orders
}

// Limit lets a VM's NIC get names as a list of its allows, and no others of the Internet. addresses
// are those by which the guest asks. It comes before Reserve, and ends with Release.
func (k *Clerk) Limit(mac net.HardwareAddr, addresses []netip.Addr, names []string) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	l := limit{MAC: mac, Addresses: addresses, Names: names}
	k.limits[mac.String()] = l
	k.send(order{Limit: &l})
}

// send sends an order to the clerk, if one runs. One that does not take it is ended by the end
// of its socket, and the next one gets all that is in force. mu is held.
func (k *Clerk) send(o order) {
	if k.conn == nil {
		return
	}
	k.conn.SetWriteDeadline(time.Now().Add(orderTime))
	if err := keeper.Send(k.conn, o); err != nil {
		k.c.Log.Warn("tell clerk", "error", err)
		k.conn.Close() // hear ends
		k.conn = nil
	}
}

// Reserve lets a VM's NIC get its address, and that of IPv6 if there is one, and the VM its name.
func (k *Clerk) Reserve(mac net.HardwareAddr, a, a6 netip.Addr, vm string) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	l := lease{MAC: mac, Address: a, Address6: a6, VM: vm}
	k.leases[mac.String()] = l
	k.send(order{Reserve: []lease{l}})
}

// Release ends the reservation of a VM's NIC.
func (k *Clerk) Release(mac net.HardwareAddr) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.leases, mac.String())
	delete(k.limits, mac.String())
	k.send(order{Release: []net.HardwareAddr{mac}})
}

// SetRouter6 has guests told whether the host is their IPv6 router to the outside.
func (k *Clerk) SetRouter6(on bool) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.c.Network.Router6 != on {
		k.c.Network.Router6 = on // for the next clerk as well
		k.send(order{Router6: &on})
	}
}

// maxSeen bounds the addresses that a clerk knows of a NIC.
const maxSeen = 4

// Saw says which IPv6 addresses of the network a VM's NIC was seen to use, the newest first.
func (k *Clerk) Saw(mac net.HardwareAddr, list []netip.Addr) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	l, reserved := k.leases[mac.String()]
	list = list[:min(len(list), maxSeen)]
	if !reserved || slices.Equal(l.Seen6, list) {
		return
	}
	l.Seen6 = slices.Clone(list)
	k.leases[mac.String()] = l // for the next clerk as well
	k.send(order{Saw: &lease{MAC: mac, Seen6: l.Seen6}})
}

// Farewell has guests told over IPv6 that the network ends, before End, and waits until that is
// done: the bridge goes then. It waits for a second at most.
func (k *Clerk) Farewell() {
	if k == nil || !k.c.Network.Prefix6.IsValid() {
		return
	}
	k.mu.Lock()
	k.send(order{Last: true})
	k.mu.Unlock()
	k.Leases() // a clerk does one order after the other
}

// Leases returns what the clerk says of its clients, for dhcp.Server.Confirm: nothing if it
// does not answer in time.
func (k *Clerk) Leases() []dhcp.Lease {
	if k == nil {
		return nil
	}
	answer := make(chan []dhcp.Lease, 1)
	k.mu.Lock()
	k.asked, k.told = answer, nil
	k.send(order{Leases: true})
	k.mu.Unlock()
	select {
	case list := <-answer:
		return list
	case <-time.After(leasesTime):
	case <-k.ctx.Done():
	}
	return nil
}

// End asks for the clerk's end. Wait waits for it.
func (k *Clerk) End() {
	if k == nil {
		return
	}
	k.cancel()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conn != nil {
		k.conn.Close()
		k.conn = nil
	}
}

// Wait waits until the clerk and its sockets are gone.
func (k *Clerk) Wait() {
	if k != nil {
		<-k.done
	}
}

// run hears the clerk, and has another started when it dies, until End.
func (k *Clerk) run() {
	defer close(k.done)
	defer k.closeFiles()
	pause := firstPause
	for begin := time.Now(); ; begin = time.Now() {
		heard := k.hear()
		how, err := k.steward.ended()
		if k.ctx.Err() != nil {
			return
		}
		if err != nil {
			k.c.Keeper.Lost(err)
			return
		}
		k.c.Log.Warn("a clerk ended", "how", how, "error", heard)
		if time.Since(begin) > steady {
			pause = firstPause
		}
		select {
		case <-k.ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
		if err := k.start(); err != nil {
			k.c.Keeper.Lost(err)
			return
		}
	}
}

// endTime bounds the wait for a clerk that was ended.
const endTime = 10 * time.Second

// ended ends the clerk, if it has not, and returns how it did.
func (r *Steward) ended() (string, error) {
	var e ended
	r.conn.SetDeadline(time.Now().Add(endTime))
	defer r.conn.SetDeadline(time.Time{})
	err := keeper.Send(r.conn, call{})
	if err == nil {
		_, err = keeper.Receive(r.conn, &e)
	}
	if err != nil {
		err = fmt.Errorf("the process that starts clerks is gone: %w", err)
	}
	return e.How, err
}

// current returns the connection to the clerk that runs.
func (k *Clerk) current() *net.UnixConn {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.conn
}

var errHostile = errors.New("it says what no clerk says")
