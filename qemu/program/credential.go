package program

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
)

// Credential is the user that QEMU runs as.
type Credential struct {
	UID, GID uint32
	Groups   []uint32 // supplementary groups, none when nil
}

// Self returns the caller's own credential.
func Self() (*Credential, error) {
	groups, err := os.Getgroups()
	if err != nil {
		return nil, fmt.Errorf("read own groups: %w", err)
	}
	c := &Credential{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	for _, g := range groups {
		c.Groups = append(c.Groups, uint32(g))
	}
	return c, nil
}

// Reads reports whether the mode bits let the user, without
// capabilities, read the file. Not knowing ACLs, it may say no where the kernel says yes.
func (c *Credential) Reads(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	switch perm := info.Mode().Perm(); {
	case st.Uid == c.UID:
		return perm&0o400 != 0
	case st.Gid == c.GID || slices.Contains(c.Groups, st.Gid):
		return perm&0o040 != 0
	default:
		return perm&0o004 != 0
	}
}
