package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	goqmp "github.com/digitalocean/go-qemu/qmp"
)

// DefaultTimeout bounds the handshake and every command whose context has no
// deadline of its own.
const DefaultTimeout = 10 * time.Second

var (
	// ErrClosed is wrapped by the errors of every call on a connection that
	// has ended, because QEMU is gone, broke the protocol, or Disconnect was
	// called.
	ErrClosed = errors.New("QMP connection closed")
	// ErrNotConnected is returned by commands given before Connect.
	ErrNotConnected = errors.New("QMP handshake not done")

	errDisconnected = errors.New("disconnected")
)

var _ goqmp.Monitor = (*Monitor)(nil)

// Monitor is one QMP connection.
type Monitor struct {
	conn    net.Conn
	writing chan struct{} // of capacity 1, held while writing; a lock that a context can give up on
	greeted chan struct{} // closed when the greeting is there
	ended   chan struct{} // closed when the reader has stopped
	stop    chan struct{} // closed by Disconnect

	start      sync.Once
	disconnect sync.Once
	ready      atomic.Bool
	lastID     atomic.Uint64
	dropped    atomic.Uint64 // events that fell out of a full queue or were too long

	mu      sync.Mutex
	version goqmp.Version         // guarded by mu
	waiting map[string]chan reply // guarded by mu; commands by id
	queues  map[*queue]struct{}   // guarded by mu; one per subscriber
	backlog *queue                // guarded by mu; nil after the first subscription
	cause   error                 // guarded by mu; why the connection ended
}

// reply is the whole line with the object decoded from it.
type reply struct {
	line []byte
	object
}

// New returns a monitor on conn, which it owns from now on. Connect must be
// called before any command.
func New(conn net.Conn) *Monitor {
	return &Monitor{
		conn:    conn,
		writing: make(chan struct{}, 1),
		greeted: make(chan struct{}),
		ended:   make(chan struct{}),
		stop:    make(chan struct{}),
		waiting: make(map[string]chan reply),
		queues:  make(map[*queue]struct{}),
		backlog: newQueue(),
	}
}

// Connect does the handshake within [DefaultTimeout], for the Monitor interface of
// go-qemu, which has no context here.
func (m *Monitor) Connect() error { return m.ConnectContext(context.Background()) }

// ConnectContext waits for QEMU's greeting and negotiates capabilities. When
// it fails the connection is closed.
func (m *Monitor) ConnectContext(ctx context.Context) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	m.start.Do(func() { go m.read() })
	if err := m.handshake(ctx); err != nil {
		m.fail(err) //nolint:errcheck // it returns what it was given
		return fmt.Errorf("connect to QMP: %w", err)
	}
	m.ready.Store(true)
	return nil
}

func (m *Monitor) handshake(ctx context.Context) error {
	select {
	case <-m.greeted:
	case <-m.ended:
		return m.Err()
	case <-ctx.Done():
		return fmt.Errorf("no greeting: %w", context.Cause(ctx))
	}
	if m.ready.Load() {
		return nil
	}
	_, err := m.command(ctx, object{"execute": json.RawMessage(`"qmp_capabilities"`)}, nil)
	return err
}

// bounded gives ctx the default timeout if it has no deadline.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, DefaultTimeout)
}

// Version returns what QEMU said in its greeting; zero before Connect.
func (m *Monitor) Version() goqmp.Version {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.version
}

// Err returns why the connection ended, wrapping [ErrClosed], or nil.
func (m *Monitor) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cause == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrClosed, m.cause)
}

// Disconnect closes the connection; commands that wait fail with [ErrClosed].
// More calls do nothing.
func (m *Monitor) Disconnect() error {
	var err error
	m.disconnect.Do(func() {
		close(m.stop)
		m.start.Do(func() { close(m.ended) }) // never connected: no reader to stop
		err = m.fail(errDisconnected)
	})
	<-m.ended
	return err
}

// fail records the first cause and closes the connection, which ends read.
func (m *Monitor) fail(cause error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cause != nil {
		return nil
	}
	m.cause = cause
	if m.backlog != nil {
		m.backlog.close()
	}
	for q := range m.queues {
		q.close()
	}
	return m.conn.Close()
}

// read dispatches lines until the connection ends.
func (m *Monitor) read() {
	defer close(m.ended)
	r := bufio.NewReaderSize(m.conn, 64<<10)
	for {
		line, err := readLine(r)
		if err == nil {
			err = m.dispatch(line)
		}
		if err != nil {
			_ = m.fail(err) // the cause is what callers want to know
			return
		}
	}
}

func (m *Monitor) dispatch(line []byte) error {
	o, err := decodeObject(line)
	if err != nil {
		return fmt.Errorf("decode message: %w", err)
	}
	switch {
	case o["QMP"] != nil:
		m.greet(o)
	case o["event"] != nil && len(line) > maxEvent:
		m.dropped.Add(1)
	case o["event"] != nil:
		m.publish(o.event())
	default:
		m.answer(reply{line: line, object: o})
	}
	return nil
}

// greet takes the first greeting and ignores others.
func (m *Monitor) greet(o object) {
	select {
	case <-m.greeted:
		return
	default:
	}
	m.mu.Lock()
	m.version = o.version()
	m.mu.Unlock()
	close(m.greeted)
}

// answer hands a reply to the command that waits for it. A reply to a
// command that was given up is discarded.
func (m *Monitor) answer(r reply) {
	id := r.text("id")
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, ok := m.waiting[id]; ok {
		delete(m.waiting, id)
		c <- r // of capacity 1, and sent to once
	}
}

// nextID returns an id as a string: go-qemu's own decoder takes no number.
func (m *Monitor) nextID() string {
	return "qnet-" + strconv.FormatUint(m.lastID.Add(1), 10)
}
