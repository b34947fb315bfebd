package dns

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

var errMismatch = errors.New("the answer is to another question")

// ask sends the query to one server, under a random id and from a random port, and
// returns the answer, still under that id.
func (f *forwarder) ask(ctx context.Context, server netip.AddrPort, raw []byte, q query, over transport) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, f.limits.perServer)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, string(over), server.String())
	if err != nil {
		return nil, fmt.Errorf("ask name server: %w", err)
	}
	defer conn.Close()
	// The context ends with the time for this server, or with ours.
	stop := context.AfterFunc(ctx, func() { expire(conn) })
	defer stop()

	raw = bytes.Clone(raw)
	if _, err := rand.Read(raw[:2]); err != nil {
		return nil, fmt.Errorf("make query id: %w", err)
	}
	if over == overTCP {
		return askTCP(conn, raw, q)
	}
	return askUDP(conn, raw, q)
}

// expire ends all reading and writing on the connection, now and later.
func expire(conn net.Conn) {
	// It fails only for a connection that is closed already.
	_ = conn.SetDeadline(time.Unix(1, 0))
}

// askUDP waits for an answer with the query's id and question, and skips the others:
// they may be forged.
func askUDP(conn net.Conn, raw []byte, q query) ([]byte, error) {
	if _, err := conn.Write(raw); err != nil {
		return nil, fmt.Errorf("ask name server: %w", err)
	}
	// An answer longer than any client takes may be cut: query.fit truncates it anyway.
	buf := make([]byte, maxUDP+1)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, fmt.Errorf("await answer: %w", err)
		}
		if q.answeredBy(buf[:n], binary.BigEndian.Uint16(raw)) {
			return buf[:n], nil
		}
	}
}

func askTCP(conn net.Conn, raw []byte, q query) ([]byte, error) {
	if err := writeMessage(conn, raw); err != nil {
		return nil, fmt.Errorf("ask name server: %w", err)
	}
	got, err := readMessage(conn)
	if err != nil {
		return nil, fmt.Errorf("await answer: %w", err)
	}
	if !q.answeredBy(got, binary.BigEndian.Uint16(raw)) {
		return nil, errMismatch
	}
	return got, nil
}

// readMessage reads a length and a message (RFC 1035, 4.2.2).
func readMessage(r io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	raw := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(r, raw)
	return raw, err
}

// writeMessage writes length and message at once: some clients expect them in one
// segment (RFC 7766, 8).
func writeMessage(w io.Writer, raw []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(raw))), raw...))
	return err
}
