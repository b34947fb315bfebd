package rig

import (
	"bufio"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	guestfiles "github.com/qnet-vm/qnet/internal/lab/guest"
)

// Guest is a shell in a guest. The guest connects it to a port of the host.
type Guest struct {
	c  net.Conn
	in *bufio.Reader
}

// bootTimeout bounds a guest's boot under TCG on a busy machine. 4 s is usual.
const bootTimeout = 60 * time.Second

// Gateway is shell code: it expands to the address of the guest's gateway.
const Gateway = "$(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p')"

// Start starts a VM: QnetVM, RecipeVM or RawVM.
type Start func(Spec) (*VM, error)

// Boot starts VMs, one after the other. The guest of each connects a shell to the
// bench. It uses DHCP unless its kernel arguments say otherwise.
func Boot(start Start, specs ...Spec) ([]*VM, error) {
	var list []*VM
	for _, s := range specs {
		v, err := boot(start, s)
		if err != nil {
			KillAll(list)
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

// KillAll kills VMs, the last first. What is left of them shows in the next group.
func KillAll(list []*VM) {
	for _, v := range slices.Backward(list) {
		v.Kill()
	}
}

func boot(start Start, s Spec) (*VM, error) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if s.Cmdline == "" {
		s.Cmdline = "qnet.net0=dhcp"
	}
	s.Cmdline += " " + guestfiles.Script(fmt.Sprintf("wire shell %s:%d", Gateway, l.Addr().(*net.TCPAddr).Port))
	v, err := start(s)
	if err != nil {
		return nil, err
	}
	l.(*net.TCPListener).SetDeadline(time.Now().Add(bootTimeout))
	c, err := l.Accept()
	if err != nil {
		v.Kill() // the error is that of the guest
		return nil, fmt.Errorf("guest %s does not boot: %w", s.Name, err)
	}
	v.Guest = &Guest{c, bufio.NewReader(c)}
	return v, nil
}

// Run runs a command in the guest and returns its output.
func (g *Guest) Run(command string) (string, error) {
	g.c.SetDeadline(time.Now().Add(bootTimeout))
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
