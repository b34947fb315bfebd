package confine

import (
	"fmt"
	"hash/fnv"
	"os"
	"strings"
)

// Nobody is the user that most hosts give to what has no user of its own.
const Nobody = 65534

// firstUID begins the user ids of what root starts. From here to 2147483647 no user and no
// container has one, by what systemd documents (UIDS-GIDS.md).
const (
	firstUID = 0x70000000
	lastUIDs = 0x0fffffff
)

// OwnUID returns the user and group id of what has the name: from 1879048192 to 2147483647, the
// same for each run, and as good as never that of another name.
func OwnUID(name string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(name))
	return firstUID + h.Sum32()&lastUIDs
}

// MapsUser reports whether this process's user namespace has the user (user_namespaces(7)). It
// does where the kernel tells no map.
func MapsUser(uid uint32) bool { return mapped("/proc/self/uid_map", uid) }

// MapsGroup is MapsUser for a group.
func MapsGroup(gid uint32) bool { return mapped("/proc/self/gid_map", gid) }

// mapped looks an id up in a map of lines "first id here, first id outside, how many".
func mapped(path string, id uint32) bool {
	text, _ := os.ReadFile(path)
	lines := strings.Fields(string(text))
	for i := 0; i+2 < len(lines); i += 3 {
		var first, count uint64
		if _, err := fmt.Sscan(lines[i]+" "+lines[i+2], &first, &count); err == nil && uint64(id) >= first && uint64(id) < first+count {
			return true
		}
	}
	return len(lines) == 0
}
