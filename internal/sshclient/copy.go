package sshclient

import (
	"fmt"
	"strings"

	"github.com/qnet-vm/qnet/profiles"
)

// Copy is what scp(1) copies, to the VM or from it.
type Copy struct {
	Sources          []string // paths on the one side
	Target           string   // a path on the other side
	ToVM             bool
	Recursive, Times bool // folders; times and permissions
}

// ParseCopy reads the operands of `qnet cp`: the last one is the target, and either it or
// all others are [USER@]NAME:PATH. It returns the name and the user, "" for none.
func ParseCopy(words []string) (c Copy, vm, login string, err error) {
	if len(words) < 2 {
		return c, "", "", fmt.Errorf("cp needs a source and a target; one of them is NAME:PATH, such as: qnet cp FILE web:/tmp/")
	}
	target := remote(words[len(words)-1])
	c.ToVM = target.vm != ""
	c.Target, vm, login = target.path, target.vm, target.login
	for _, word := range words[:len(words)-1] {
		source := remote(word)
		switch {
		case source.vm != "" && c.ToVM:
			return c, "", "", fmt.Errorf("cp: both %q and %q are in VMs; copy by way of the host, or run scp in one of them", word, words[len(words)-1])
		case source.vm == "" && !c.ToVM:
			return c, "", "", fmt.Errorf("cp: neither %q nor %q is in a VM; write NAME:PATH for one", word, words[len(words)-1])
		case !c.ToVM && vm != "" && (vm != source.vm || login != source.login):
			return c, "", "", fmt.Errorf("cp: the sources are in several VMs; copy from one at a time")
		case !c.ToVM:
			vm, login = source.vm, source.login
		}
		c.Sources = append(c.Sources, source.path)
	}
	return c, vm, login, nil
}

// end is an operand: a path of the host, or of a VM.
type end struct{ login, vm, path string }

// remote reads an operand. As with scp, a path of the host that has a colon is written with
// a slash before it, such as ./a:b.
func remote(word string) end {
	name, path, ok := strings.Cut(word, ":")
	login := ""
	if i := strings.LastIndex(name, "@"); i >= 0 {
		login, name = name[:i], name[i+1:]
	}
	if !ok || !profiles.ValidName(name) {
		return end{path: word}
	}
	return end{login, name, path}
}

// arguments returns the arguments of scp(1) behind the options. The host's paths get a
// slash, so that scp takes none for another machine's or for an option.
func (c *Copy) arguments(host string) []string {
	var args []string
	if c.Recursive {
		args = append(args, "-r")
	}
	if c.Times {
		args = append(args, "-p")
	}
	args = append(args, "--")
	here, there := plain, func(path string) string { return host + ":" + path }
	from, to := there, here
	if c.ToVM {
		from, to = here, there
	}
	for _, s := range c.Sources {
		args = append(args, from(s))
	}
	return append(args, to(c.Target))
}

// plain makes a path of the host one that is nothing else to scp.
func plain(path string) string {
	if strings.HasPrefix(path, "/") || strings.HasPrefix(path, ".") {
		return path
	}
	return "./" + path
}
