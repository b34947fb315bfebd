package asuser

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
)

// Home returns the home directory of the user behind sudo, by passwd(5). For a nil user
// it is HOME of the environment, or without that, by passwd(5), the caller's. It is "" if
// neither tells: a container may run as a user without an entry. A relative HOME tells
// nothing: it would be another directory wherever qnet is called.
func (u *User) Home(getenv func(string) string) string {
	uid := os.Geteuid()
	if u != nil {
		uid = int(u.UID)
	} else if home := getenv("HOME"); filepath.IsAbs(home) {
		return home
	}
	entry, err := user.LookupId(strconv.Itoa(uid))
	if err != nil || !filepath.IsAbs(entry.HomeDir) {
		return ""
	}
	return entry.HomeDir
}

// Name returns the name of a user by passwd(5), or "user 1000" for one without an entry.
func Name(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	entry, err := user.LookupId(id)
	if err != nil || entry.Username == "" {
		return "user " + id
	}
	return entry.Username
}
