// Package console is the serial console of a guest: copied to its log, to a terminal, and to
// clients that come and go.
package console

import (
	"io"
	"sync"

	"github.com/qnet-vm/qnet/internal/terminal"
)

// backlog is how many chunks of output wait for a client. A client that is slower
// misses chunks: it must not hold the guest up.
const backlog = 256

// Console copies the guest's output to its log, to the terminal and to the clients of
// `qnet console`, and their keys to the guest.
type Console struct {
	guest io.ReadWriter
	log   io.Writer
	Out   io.Writer // the terminal or stdout of `qnet run`

	Lost func(error) // called when Out does not take the output, once; may be nil

	mu      sync.Mutex               // guards clients
	clients map[chan []byte]struct{} // each gets the output; closed and nil after the guest's end
}

// New returns the console of a guest, which Pump serves.
func New(guest io.ReadWriter, log, out io.Writer) *Console {
	return &Console{guest: guest, log: log, Out: out, clients: map[chan []byte]struct{}{}}
}

// Pump copies the guest's output until QEMU closes its end.
func (c *Console) Pump() {
	buf := make([]byte, 4096)
	out := terminal.NewOutlet(c.Out, c.Lost)
	for {
		n, err := c.guest.Read(buf)
		if n > 0 {
			c.log.Write(buf[:n]) //nolint:errcheck // a full disk must not stop the console
			chunk := append([]byte(nil), buf[:n]...)
			out.Put(chunk)
			c.spread(chunk)
		}
		if err != nil {
			c.close()
			out.Close()
			return
		}
	}
}

// Keys is where the guest reads what is typed.
func (c *Console) Keys() io.Writer { return c.guest }

func (c *Console) spread(chunk []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ch := range c.clients {
		select {
		case ch <- chunk:
		default:
		}
	}
}

func (c *Console) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ch := range c.clients {
		close(ch)
	}
	c.clients = nil
}

// Attach serves a client until it or the guest ends, and closes out.
func (c *Console) Attach(in io.Reader, out io.WriteCloser) {
	ch := make(chan []byte, backlog)
	c.mu.Lock()
	if c.clients == nil {
		c.mu.Unlock()
		out.Close()
		return
	}
	c.clients[ch] = struct{}{}
	c.mu.Unlock()
	go func() {
		io.Copy(c.guest, in) //nolint:errcheck // the end of either side ends the attachment
		out.Close()
	}()
	for chunk := range ch {
		if _, err := out.Write(chunk); err != nil {
			break
		}
	}
	out.Close()
	c.mu.Lock()
	delete(c.clients, ch)
	c.mu.Unlock()
}
