package dns

import (
	"net"
	"net/netip"
	"time"
)

func (s *Server) serveTCP() {
	for {
		conn, err := s.tcp.AcceptTCP()
		if err != nil {
			if !s.endures(err) {
				return
			}
			continue
		}
		client := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		if !s.serves(client) || !s.adopt(conn, client) {
			conn.Close()
			continue
		}
		if !s.start(func() { s.serveConn(conn, client) }) {
			s.disown(conn)
		}
	}
}

// adopt makes Close close the connection, too. It reports false if there are too many
// connections, of all clients or of this one.
func (s *Server) adopt(conn net.Conn, client netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := 0
	for _, of := range s.conns {
		if of == client {
			own++
		}
	}
	if len(s.conns) >= s.limits.connections || own >= s.limits.fromClient {
		return false
	}
	s.conns[conn] = client
	return true
}

func (s *Server) disown(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
	conn.Close()
}

// serveConn answers the queries of a connection one after the other, until the client
// hangs up, is idle for too long, or sends another message than a query.
func (s *Server) serveConn(conn net.Conn, client netip.Addr) {
	defer s.disown(conn)
	defer s.contain()
	for s.extend(conn) {
		raw, err := readMessage(conn)
		if err != nil {
			return
		}
		what, q, answer := s.zone.answer(raw, overTCP)
		if what == drop {
			return
		}
		s.config.Queried(client, false)
		if what == forward {
			answer = s.forwardTCP(client, raw, q)
		}
		// Forwarding may have taken most of the time that the client has.
		if answer == nil || !s.extend(conn) || writeMessage(conn, answer) != nil {
			return
		}
		s.config.Queried(client, true)
	}
}

// extend gives the client tcpIdle from now. It reports false for a closed connection.
func (s *Server) extend(conn net.Conn) bool {
	return conn.SetDeadline(time.Now().Add(s.limits.tcpIdle)) == nil
}

// forwardTCP waits for its turn to forward. Few queries wait, because a connection has
// one at a time. It returns nil after Close.
func (s *Server) forwardTCP(client netip.Addr, raw []byte, q query) []byte {
	check, answer := s.asks(client, q, overTCP)
	if answer != nil {
		return answer
	}
	if answer = s.forwarder.cached(raw, q, overTCP); answer == nil {
		answer = s.askTCP(raw, q)
	}
	if check {
		answer = s.checked(client, q, answer, overTCP)
	}
	return answer
}

// askTCP asks the name servers, when it is this query's turn.
func (s *Server) askTCP(raw []byte, q query) []byte {
	select {
	case s.forwards <- struct{}{}:
	case <-s.ctx.Done():
		return nil
	}
	defer func() { <-s.forwards }()
	return s.forwarder.answer(s.ctx, raw, q, overTCP)
}
