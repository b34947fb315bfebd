package dhcp6

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/ra"
)

// answer returns the answer to a client's message by RFC 8415, section 18.3; nil for a
// message that gets none. mu is held.
func (s *Server) answer(from mac, m message) []byte {
	if !s.valid(m) {
		return nil
	}
	c := s.clients[from]
	switch m.kind {
	case solicit:
		if m.rapid && c != nil {
			return s.lease(c, m, reply)
		}
		return s.lease(c, m, advertise)
	case request, renew:
		return s.lease(c, m, reply)
	case rebind:
		if c == nil {
			return nil // another server may know it
		}
		return s.lease(c, m, reply)
	case confirm:
		return s.confirm(c, m)
	case release, decline:
		return s.giveBack(c, m)
	case information:
		return s.others(s.head(m, reply))
	}
	return nil
}

// valid reports whether a message has the identifiers that its type needs, and none that it must
// not have (RFC 8415, section 16).
func (s *Server) valid(m message) bool {
	means := bytes.Equal(m.server, s.duid)
	switch m.kind {
	case solicit, confirm, rebind:
		return m.client != nil && m.server == nil
	case request, renew, release, decline:
		return m.client != nil && means
	case information:
		return (m.server == nil || means) && len(m.ias) == 0
	}
	return false
}

// head begins an answer.
func (s *Server) head(m message, kind byte) []byte {
	b := append(make([]byte, 0, 256), kind)
	b = append(b, m.xid...)
	if m.client != nil {
		b = appendOption(b, optClientID, m.client...)
	}
	return appendOption(b, optServerID, s.duid...)
}

// others appends what every client gets: the name server and the search list.
func (s *Server) others(b []byte) []byte {
	if s.c.Domain == "" {
		return b
	}
	server := s.c.Address.As16()
	b = appendOption(b, optNameServers, server[:]...)
	return appendOption(b, optSearchList, ra.Labels(s.c.Domain)...)
}

// lease answers with the client's address; c is nil for one without.
func (s *Server) lease(c *client, m message, kind byte) []byte {
	b := s.head(m, kind)
	if kind == advertise {
		b = appendOption(b, optPreference, 255) // the client need not wait for other servers
	} else if m.kind == solicit {
		b = appendOption(b, optRapidCommit)
	}
	given := false
	for _, x := range m.ias {
		if x.option == optIANA && c != nil && !given {
			given = true
			b = appendLease(b, c, x, m.kind == renew || m.kind == rebind)
			continue
		}
		b = appendRefusal(b, x, m.kind)
	}
	if given && kind == reply {
		c.bound, c.until = true, s.now().Add(leaseTime)
	}
	return s.others(b)
}

// appendLease appends the client's address. Of others that it had, a client that renews learns
// that they are not its own.
func appendLease(b []byte, c *client, x ia, renews bool) []byte {
	const life = uint32(leaseTime / 1e9)
	at, b := begin(b, optIANA)
	b = append(b, x.id...)
	b = binary.BigEndian.AppendUint32(b, life/2)   // T1: renew
	b = binary.BigEndian.AppendUint32(b, life*4/5) // T2: rebind
	b = appendAddress(b, c.address, life)
	for _, a := range x.addresses {
		if renews && a != c.address {
			b = appendAddress(b, a, 0)
		}
	}
	return end(b, at)
}

// appendRefusal appends an association that gets nothing, and why.
func appendRefusal(b []byte, x ia, asked byte) []byte {
	at, b := begin(b, x.option)
	b = append(b, x.id...)
	if x.option != optIATA {
		b = append(b, 0, 0, 0, 0, 0, 0, 0, 0) // T1 and T2 are the client's to choose
	}
	switch {
	case x.option == optIAPD:
		b = appendStatus(b, noPrefixAvail, "this network has one prefix")
	case asked == renew || asked == rebind:
		b = appendStatus(b, noBinding, "no address is reserved for this MAC")
	default:
		b = appendStatus(b, noAddrsAvail, "no address is reserved for this MAC")
	}
	return end(b, at)
}

// confirm tells a client that comes back to a link whether its addresses belong there.
func (s *Server) confirm(c *client, m message) []byte {
	some, fits := false, true
	for _, x := range m.ias {
		for _, a := range x.addresses {
			some, fits = true, fits && s.c.Prefix.Contains(a)
			if c != nil && a == c.address {
				c.bound, c.until = true, s.now().Add(leaseTime)
			}
		}
	}
	switch {
	case !some:
		return nil
	case !fits:
		return appendStatus(s.head(m, reply), notOnLink, "the prefix of this network is another one")
	}
	return s.others(appendStatus(s.head(m, reply), success, ""))
}

// giveBack ends the lease of a client that does not use its address any more, or that found it
// in use by another host.
func (s *Server) giveBack(c *client, m message) []byte {
	b := appendStatus(s.head(m, reply), success, "")
	for _, x := range m.ias {
		if c == nil || !slices.Contains(x.addresses, c.address) {
			at, longer := begin(b, x.option)
			longer = append(longer, x.id...)
			if x.option != optIATA {
				longer = append(longer, 0, 0, 0, 0, 0, 0, 0, 0)
			}
			b = end(appendStatus(longer, noBinding, "the address is not yours on this network"), at)
			continue
		}
		c.bound = false
		if m.kind == decline {
			s.warn(c)
		}
	}
	return b
}
