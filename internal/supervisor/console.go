package supervisor

import (
	"io"
	"sync"

	"github.com/qnet-vm/qnet/internal/terminal"
)

// backlog is how many chunks of output wait for a client. A client that is slower
// misses chunks: it must not hold the guest up.
const backlog = 256

// console copies the guest's output to its log, to the terminal and to the clients of
// `qnet console`, and their keys to the guest.
type console struct {
	guest io.ReadWriter
	log   io.Writer
	out   io.Writer // the terminal or stdout of `qnet run`

	lost func(error) // called when out does not take the output, once; may be nil

	mu      sync.Mutex               // guards clients
	clients map[chan []byte]struct{} // each gets the output; closed and nil after the guest's end
}

func newConsole(guest io.ReadWriter, log, out io.Writer) *console {
	return &console{guest: guest, log: log, out: out, clients: map[chan []byte]struct{}{}}
}

// pump copies the guest's output until QEMU closes its end.
func (c *console) pump() {
	buf := make([]byte, 4096)
	out := terminal.NewOutlet(c.out, c.lost)
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

func (c *console) spread(chunk []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ch := range c.clients {
		select {
		case ch <- chunk:
		default:
		}
	}
}

func (c *console) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ch := range c.clients {
		close(ch)
	}
	c.clients = nil
}

// attach serves a client until it or the guest ends, and closes out.
func (c *console) attach(in io.Reader, out io.WriteCloser) {
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
