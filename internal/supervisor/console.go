package supervisor

import (
	"io"
	"os"
	"sync"
)

// maxLog is when the console's log is put aside as console.log.1, in bytes: a
// guest must not fill the disk.
const maxLog = 4 << 20

// backlog is how many chunks a client may lag before it misses some: it must
// not hold the guest up.
const backlog = 256

// console copies what the guest writes to its log, to the terminal and to
// clients, and what these type to the guest.
type console struct {
	guest io.ReadWriter
	log   io.Writer
	out   io.Writer // the terminal or stdout of `qnet run`

	mu      sync.Mutex // guards clients
	clients map[chan []byte]struct{}
}

// pump returns when the guest's side has ended.
func (c *console) pump() {
	buf := make([]byte, 4096)
	for {
		n, err := c.guest.Read(buf)
		if n > 0 {
			c.log.Write(buf[:n]) //nolint:errcheck // a full disk must not stop the console
			c.out.Write(buf[:n]) //nolint:errcheck // nor a terminal that is gone
			c.spread(append([]byte(nil), buf[:n]...))
		}
		if err != nil {
			c.close()
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

// attach serves a client until it or the guest ends.
func (c *console) attach(in io.Reader, out io.WriteCloser) {
	ch := make(chan []byte, backlog)
	c.mu.Lock()
	if c.clients == nil {
		c.mu.Unlock()
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

// logFile is a file that is put aside when it grows past maxLog.
type logFile struct {
	path string
	file *os.File
	size int64
}

func openLog(path string) (*logFile, error) {
	l := &logFile{path: path}
	return l, l.create()
}

// create starts the file anew, as a file of its own: whoever could write to the
// directory must not choose what is written to.
func (l *logFile) create() error {
	if err := os.Remove(l.path); err != nil && !os.IsNotExist(err) {
		return err
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	l.file, l.size = f, 0
	return nil
}

// Write appends to the file.
func (l *logFile) Write(b []byte) (int, error) {
	if l.size+int64(len(b)) > maxLog {
		l.file.Close()
		if err := os.Rename(l.path, l.path+".1"); err != nil {
			return 0, err
		}
		if err := l.create(); err != nil {
			return 0, err
		}
	}
	n, err := l.file.Write(b)
	l.size += int64(n)
	return n, err
}

// Close closes the file.
func (l *logFile) Close() error { return l.file.Close() }
