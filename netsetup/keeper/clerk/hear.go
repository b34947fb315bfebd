package clerk

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/qnet-vm/qnet/internal/legible"
	"github.com/qnet-vm/qnet/internal/resolvconf"
	"github.com/qnet-vm/qnet/netsetup/dhcp"
	"github.com/qnet-vm/qnet/netsetup/keeper"
)

// A clerk may be a guest's. These bound what it can make the keeper do.
const (
	wordsEach  = time.Second // for so many words
	maxWords   = 2000
	maxWarned  = 32   // warnings of a clerk each minute
	maxWarning = 300  // bytes of a warning
	maxLeases  = 4096 // of dhcp, in an answer
)

// listener is what the keeper knows of a clerk that it hears.
type listener struct {
	k      *Clerk
	began  time.Time // of the words counted
	words  int
	minute time.Time // of the warnings counted
	warned int
}

// hear takes the clerk's words until its socket ends, or until it says what no clerk says.
func (k *Clerk) hear() error {
	conn := k.current()
	if conn == nil {
		return net.ErrClosed
	}
	defer k.hangUp(conn)
	for l := (&listener{k: k}); ; {
		var w word
		files, err := keeper.Receive(conn, &w)
		keeper.CloseAll(files)
		if err == nil {
			err = l.take(w)
		}
		if err != nil {
			return err
		}
		if !l.pace() {
			return net.ErrClosed
		}
	}
}

func (k *Clerk) hangUp(conn *net.UnixConn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	conn.Close()
	if k.conn == conn {
		k.conn = nil
	}
}

// pace waits where a clerk says too much. It reports false at the end.
func (l *listener) pace() bool {
	now := time.Now()
	if now.Sub(l.began) > wordsEach {
		l.began, l.words = now, 0
	}
	if l.words++; l.words < maxWords {
		return true
	}
	select {
	case <-l.k.ctx.Done():
		return false
	case <-time.After(wordsEach):
		return true
	}
}

// take does what a word asks for, if a clerk may say it.
func (l *listener) take(w word) error {
	k := l.k
	if w.Kept != nil {
		if err := k.c.Keeper.Kept(w.Kept.MAC, w.Kept.Address); err != nil {
			return fmt.Errorf("%w: %w", errHostile, err)
		}
	}
	if w.Warn != "" {
		l.warn(w.Warn)
	}
	if w.Answer != nil || w.Refused != nil {
		if err := l.names(w); err != nil {
			return err
		}
	}
	if w.Conf {
		conf := numbered(resolvconf.Read(hostsConf))
		k.mu.Lock()
		k.send(order{Conf: &conf})
		k.mu.Unlock()
	}
	if len(w.Leases) > 0 || w.End {
		return k.collect(w)
	}
	return nil
}

// Bounds of what a clerk says about names.
const (
	maxName    = 255
	maxAnswers = 4096 // addresses of an answer: a message has no room for more
)

// names passes on what the clerk says about the names of guests with a limit.
func (l *listener) names(w word) error {
	k := l.k
	if r := w.Refused; r != nil {
		if len(r.Name) > maxName {
			return fmt.Errorf("%w: a name of %d bytes", errHostile, len(r.Name))
		}
		k.c.Keeper.Refused(r.MAC, legible.Text(r.Name))
	}
	a := w.Answer
	if a == nil {
		return nil
	}
	valid := func(a netip.Addr) bool { return a.IsValid() && a.Zone() == "" && !a.Is4In6() }
	if len(a.Name) > maxName || len(a.Addresses) > maxAnswers || a.TTL < 0 || a.TTL > math.MaxUint32 || slices.ContainsFunc(a.Addresses, func(a netip.Addr) bool { return !valid(a) }) {
		return fmt.Errorf("%w: an answer that no server gives", errHostile)
	}
	ruling := k.c.Keeper.Answered(a.MAC, a.Name, a.Addresses, time.Duration(a.TTL)*time.Second)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.send(order{Ruled: &ruled{ID: a.ID, Ruling: ruling}})
	return nil
}

// hostsConf is the file of the host's name servers.
const hostsConf = "/etc/resolv.conf"

// numbered names links by their numbers: a clerk cannot ask for links.
func numbered(c resolvconf.Conf) resolvconf.Conf {
	for i, a := range c.Servers {
		if link, err := net.InterfaceByName(a.Zone()); a.Zone() != "" && err == nil {
			c.Servers[i] = a.WithZone(fmt.Sprint(link.Index))
		}
	}
	return c
}

// collect puts the parts of an answer to Leases together.
func (k *Clerk) collect(w word) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.asked == nil || len(k.told)+len(w.Leases) > maxLeases+part {
		return fmt.Errorf("%w: leases that nobody asked for", errHostile)
	}
	k.told = append(k.told, w.Leases...)
	if w.End {
		select {
		case k.asked <- k.told:
		default: // the asker has gone
		}
		k.told = []dhcp.Lease{}
	}
	return nil
}

// warn tells the user what the clerk says, as text and not too often.
func (l *listener) warn(text string) {
	if now := time.Now(); now.Sub(l.minute) > time.Minute {
		l.minute, l.warned = now, 0
	}
	if l.warned++; l.warned > maxWarned {
		return
	}
	text = legible.Text(text[:min(len(text), maxWarning)]) // which may be longer
	l.k.c.Keeper.Warn(legible.Text(text[:min(len(text), maxWarning)]))
}
