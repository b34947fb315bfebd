package jail

import (
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/confine"
)

// rules are the command's files, and what programs load.
func (c Command) rules() []confine.Rule {
	rules := []confine.Rule{{Path: os.DevNull, Access: confine.Write}}
	for _, path := range slices.Concat([]string{filepath.Dir(c.Path)}, confine.Libraries(), c.Also) {
		rules = append(rules, confine.Rule{Path: path, Access: confine.Load})
	}
	for _, f := range c.Read {
		rules = append(rules, confine.Rule{Open: f, Access: confine.Read})
	}
	for _, f := range c.Write {
		rules = append(rules, confine.Rule{Open: f, Access: confine.Write})
	}
	for _, f := range c.Dirs {
		rules = append(rules, confine.Rule{Open: f, Access: confine.Keep})
	}
	return rules
}

// calls is the filter of a program which only computes on files: it makes no connections
// either.
func calls() *confine.Filter {
	f := &confine.Filter{}
	f.Refuse(unix.EPERM, unix.SYS_SOCKET, unix.SYS_CONNECT, unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_ACCEPT, unix.SYS_ACCEPT4)
	f.Refuse(unix.EPERM, confine.Intrusive...)
	return f
}
