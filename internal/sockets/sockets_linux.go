// Package sockets tells which processes hold a port, by /proc/net (proc(5))
// and sock_diag(7). It changes nothing,
// and its functions may be called concurrently.
package sockets

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/legible"
)

// Holder is a socket that holds a port.
type Holder struct {
	local netip.AddrPort
	inode string
}

// The transports of a port.
const (
	TCP = "tcp"
	UDP = "udp"
)

const listening = "0A" // TCP_LISTEN in /proc/net/tcp

// listenerQuestion is struct inet_diag_req_v2 of linux/inet_diag.h: a question for the sockets
// of TCP that listen on a port.
type listenerQuestion struct {
	family uint8
	port   uint16
}

const (
	listenerQuestionLen = 56 // bytes of struct inet_diag_req_v2
	tcpListen           = 10 // TCP_LISTEN of linux/tcp_states.h
)

// Len is the size of the question, in bytes.
func (q listenerQuestion) Len() int { return listenerQuestionLen }

// Serialize is the question as the kernel reads it.
func (q listenerQuestion) Serialize() []byte {
	b := make([]byte, listenerQuestionLen)
	b[0], b[1] = q.family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[4:], 1<<tcpListen)
	binary.BigEndian.PutUint16(b[8:], q.port)
	return b
}

// NoListener reports whether no socket of TCP listens on the port in the caller's network
// namespace. It asks by sock_diag(7): the kernel looks at the sockets that listen, while for
// /proc/net/tcp it walks through the table of all connections, for milliseconds.
//
//	ss -Hltn sport = :53
func NoListener(port uint16) (bool, error) {
	none := true
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		req := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
		req.AddData(listenerQuestion{family, port})
		err := req.ExecuteIter(unix.NETLINK_SOCK_DIAG, nl.SOCK_DIAG_BY_FAMILY, func([]byte) bool {
			none = false
			return true
		})
		if err != nil {
			return false, fmt.Errorf("list listeners on port %d: %w", port, err)
		}
	}
	return none, nil
}

// Prevents says of addresses whether a socket at one prevents another socket at the given one,
// of the same port.
func Prevents(at netip.Addr) func(netip.Addr) bool {
	return func(a netip.Addr) bool { return a == at || a.IsUnspecified() }
}

// Describe names the processes that hold the port at an address for which holds is true, as far
// as proc (/proc) shows them: " by dnsmasq (pid 812) at 0.0.0.0:53". Only its owner and root see
// the process of a socket; others get " at 0.0.0.0:53".
func Describe(proc string, over string, port uint16, holds func(netip.Addr) bool) string {
	holders := Find(proc, over, port, holds)
	owners := socketOwners(proc, holders)
	var words []string
	for _, h := range holders {
		if owner := owners[h.inode]; owner != "" {
			words = append(words, " by "+owner+" at "+h.local.String())
		} else {
			words = append(words, " at "+h.local.String())
		}
	}
	return strings.Join(words, ",")
}

// Find returns the sockets that hold the port at an address for which holds is true, as far as
// proc (/proc) shows them.
func Find(proc string, over string, port uint16, holds func(netip.Addr) bool) []Holder {
	var holders []Holder
	for _, table := range []string{over, over + "6"} {
		// thread-self: the thread's network namespace may differ from the process's.
		text, err := os.ReadFile(filepath.Join(proc, "thread-self", "net", table))
		if err == nil {
			holders = append(holders, parse(string(text), over, port, holds)...)
		}
	}
	return holders
}

// WildcardOnly reports whether the port is held on all addresses only.
func WildcardOnly(holders []Holder) bool {
	return len(holders) > 0 && !slices.ContainsFunc(holders, func(h Holder) bool { return !h.local.Addr().IsUnspecified() })
}

// parse finds the sockets in a table of /proc/net that hold the port. Its columns are slot, local address, remote address, state, queues,
// timer, retransmits, uid, timeout, inode.
func parse(table string, over string, port uint16, holds func(netip.Addr) bool) []Holder {
	var holders []Holder
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 10 {
			continue
		}
		local, ok := parseEndpoint(fields[1])
		if !ok || local.Port() != port || over == TCP && fields[3] != listening {
			continue
		}
		if holds(local.Addr()) {
			holders = append(holders, Holder{local, fields[9]})
		}
	}
	return holders
}

// parseEndpoint reads "0100007F:0035". The kernel prints the address, in network order,
// as 32-bit numbers of the machine.
func parseEndpoint(s string) (netip.AddrPort, bool) {
	host, port, ok := strings.Cut(s, ":")
	raw, err := hex.DecodeString(host)
	if !ok || err != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for word := raw; len(word) > 0; word = word[4:] {
		binary.NativeEndian.PutUint32(word, binary.BigEndian.Uint32(word))
	}
	addr, ok := netip.AddrFromSlice(raw)
	number, err := strconv.ParseUint(port, 16, 16)
	return netip.AddrPortFrom(addr.Unmap(), uint16(number)), ok && err == nil
}

// socketOwners finds the processes that have the sockets open, such as
// "dnsmasq (pid 812)", by inode.
func socketOwners(proc string, holders []Holder) map[string]string {
	wanted := map[string]string{} // link of an open socket: its inode
	for _, h := range holders {
		wanted["socket:["+h.inode+"]"] = h.inode
	}
	owners := map[string]string{}
	if len(wanted) == 0 {
		return owners
	}
	files, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "fd", "*"))
	if err != nil {
		return owners
	}
	for _, file := range files {
		link, err := os.Readlink(file) // fails for a file closed meanwhile
		inode, ok := wanted[link]
		if err != nil || !ok || owners[inode] != "" {
			continue
		}
		process := filepath.Dir(filepath.Dir(file))
		comm, err := os.ReadFile(filepath.Join(process, "comm"))
		if err == nil {
			owners[inode] = legible.Text(strings.TrimSpace(string(comm))) + " (pid " + filepath.Base(process) + ")"
		}
	}
	return owners
}
