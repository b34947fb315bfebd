package dhcp

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/qnet-vm/qnet/internal/atomicfile"
	"github.com/qnet-vm/qnet/internal/order"
)

// load reads the lease file: "MAC ADDRESS" lines, of which the last one of a MAC counts.
// It skips malformed lines: the address then derives from the MAC again.
func (s *Server) load() error {
	if s.c.Known != nil {
		b, err := io.ReadAll(s.c.Known)
		s.parse(string(b))
		return err
	}
	if s.c.LeaseFile == "" {
		return nil
	}
	b, err := os.ReadFile(s.c.LeaseFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read leases: %w", err)
	}
	s.parse(string(b))
	return s.compact()
}

// parse takes over what the text of a lease file says.
func (s *Server) parse(text string) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) != 2 || !strings.HasSuffix(line, "\n") {
			continue
		}
		hw, err := net.ParseMAC(words[0])
		a, addrErr := netip.ParseAddr(words[1])
		if err == nil && addrErr == nil && len(hw) == 6 && s.pool.usable(a) {
			s.pool.remember(toMAC(hw), a)
		}
	}
}

// compact writes the file anew, with one line per MAC.
func (s *Server) compact() error {
	var b strings.Builder
	macs := make([]mac, 0, len(s.pool.last))
	for m := range s.pool.last {
		macs = append(macs, m)
	}
	order.By(macs, func(a, b mac) int { return cmp.Compare(a.String(), b.String()) })
	for _, m := range macs {
		fmt.Fprintf(&b, "%s %s\n", m, s.pool.last[m])
	}
	if s.file != nil {
		s.file.Close()
	}
	if err := atomicfile.Write(s.c.LeaseFile, []byte(b.String())); err != nil {
		return fmt.Errorf("write leases: %w", err)
	}
	var err error
	s.file, err = os.OpenFile(s.c.LeaseFile, os.O_WRONLY|os.O_APPEND, 0)
	s.lines = len(macs)
	if err != nil {
		return fmt.Errorf("write leases: %w", err)
	}
	return nil
}

// keep appends a lease to the file. If the disk is full, the server only forgets the
// address after its end.
func (s *Server) keep(m mac, l *lease) {
	if s.c.Kept != nil {
		s.c.Kept(m[:], l.address)
	}
	s.write(m, l.address)
}

func (s *Server) write(m mac, a netip.Addr) {
	if s.file == nil {
		return
	}
	if s.lines++; s.lines > 2*maxRemembered {
		if err := s.compact(); err != nil {
			s.c.Log.Warn("write leases", "error", err)
		}
		return
	}
	if _, err := fmt.Fprintf(s.file, "%s %s\n", m, a); err != nil {
		s.c.Log.Warn("write leases", "error", err)
	}
}
