package supervisor

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// sshVariable is set by sshd(8): "client address, client port, server address,
// server port".
const sshVariable = "SSH_CONNECTION"

// RemotePeer returns the other end of the SSH session that this process runs in, the
// zero address if it runs in none. sudo(8) removes the variable, so RemotePeer also
// looks at the environments of the processes above, up to one that has it.
func RemotePeer() netip.Addr {
	value, found := os.LookupEnv(sshVariable)
	for pid := os.Getppid(); !found && pid > 1; pid = parent(pid) {
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil {
			break
		}
		value, found = lookup(string(environ), sshVariable)
	}
	client, _, _ := strings.Cut(value, " ")
	addr, _ := netip.ParseAddr(client) // the zero address if it is none
	return addr.Unmap()
}

// lookup finds a variable in the content of /proc/<pid>/environ.
func lookup(environ, name string) (string, bool) {
	for entry := range strings.SplitSeq(environ, "\x00") {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// parent returns the parent of a process, 0 if it is unknown (proc(5), stat).
func parent(pid int) int {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, in brackets, may hold any character. Behind it are the state and the parent.
	_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
	var state string
	var ppid int
	fmt.Sscan(rest, &state, &ppid) //nolint:errcheck // 0 then
	return ppid
}
