package main

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"time"

	guestfiles "github.com/qnet-vm/qnet/internal/lab/guest"
)

// guest is a shell in a guest, which it connects to a port of the host's.
type guest struct {
	c  net.Conn
	in *bufio.Reader
}

// bootTime bounds a guest's boot under TCG on a busy machine; 4 s is usual.
const bootTime = 60 * time.Second

// viaDHCP is a guest's way to the host, in the words of its shell.
const viaDHCP = "$(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p')"

// boot starts a VM whose guest connects a shell to the bench, by DHCP unless its
// arguments give it an address.
func (b *bench) boot(start func(spec) (*vm, error), s spec) (*vm, error) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if s.cmdline == "" {
		s.cmdline = "qnet.net0=dhcp"
	}
	s.cmdline += " " + guestfiles.Script(fmt.Sprintf("wire shell %s:%d", viaDHCP, l.Addr().(*net.TCPAddr).Port))
	v, err := start(s)
	if err != nil {
		return nil, err
	}
	l.(*net.TCPListener).SetDeadline(time.Now().Add(bootTime))
	c, err := l.Accept()
	if err != nil {
		v.kill() // the guest's silence is the news
		return nil, fmt.Errorf("guest %s does not boot: %w", s.name, err)
	}
	v.guest = &guest{c, bufio.NewReader(c)}
	return v, nil
}

// run runs a command in the guest and returns what it says.
func (g *guest) run(command string) (string, error) {
	g.c.SetDeadline(time.Now().Add(bootTime))
	if _, err := fmt.Fprintf(g.c, "%s\necho QNET-RC $?\n", command); err != nil {
		return "", err
	}
	var out strings.Builder
	for {
		line, err := g.in.ReadString('\n')
		if err != nil {
			return "", fmt.Errorf("guest: %s: %w\n%s", command, err, &out)
		}
		if code, ok := strings.CutPrefix(line, "QNET-RC "); ok {
			if strings.TrimSpace(code) != "0" {
				return "", fmt.Errorf("guest: %s: exit code %s\n%s", command, code, &out)
			}
			return out.String(), nil
		}
		out.WriteString(line)
	}
}
