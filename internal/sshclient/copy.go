package sshclient

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/qnet-vm/qnet/profiles"
)

// Copy is what scp(1) copies, to the VM or from it.
type Copy struct {
	Sources          []string // paths on the one side
	Target           string   // a path on the other side
	ToVM             bool
	Recursive, Times bool     // folders; times and permissions
	From             *Session // VM of the sources where the target is in another one; else nil

	config string // path of the file of ssh_config(5) that leads to both
}

// Operands are what `qnet cp` copies between: the VM of the session, and, where both ends are in
// VMs, that of the sources.
type Operands struct {
	Copy
	VM, Login         string // of the target, or of the sources where the target is on the host
	FromVM, FromLogin string // "" where one end is on the host
}

// ParseCopy reads the operands of `qnet cp`: the last one is the target, and it, all others, or
// both are [USER@]NAME:PATH.
func ParseCopy(words []string) (c Operands, err error) {
	if len(words) < 2 {
		return c, fmt.Errorf("cp needs a source and a target; one of them is NAME:PATH, such as: qnet cp FILE web:/tmp/")
	}
	target := remote(words[len(words)-1])
	c.ToVM = target.vm != ""
	c.Target, c.VM, c.Login = target.path, target.vm, target.login
	var first end
	for i, word := range words[:len(words)-1] {
		source := remote(word)
		if i == 0 {
			first = source
		}
		switch {
		case source.vm == "" && !c.ToVM:
			return c, fmt.Errorf("cp: neither %q nor %q is in a VM; write NAME:PATH for one", word, words[len(words)-1])
		case strings.ContainsAny(source.login+target.login, " \t\r\n\"'#"):
			return c, fmt.Errorf("cp: USER of %q or %q is no name of an account", word, words[len(words)-1])
		case first.vm != source.vm || first.login != source.login:
			return c, fmt.Errorf("cp: the sources are in several places; copy from one at a time")
		}
		c.Sources = append(c.Sources, source.path)
	}
	if !c.ToVM {
		c.VM, c.Login = first.vm, first.login
	} else {
		c.FromVM, c.FromLogin = first.vm, first.login
	}
	return c, nil
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

// lines are the VM's part of a file of ssh_config(5): the options with which ssh gets to it.
func (s Session) lines(knownHosts string) string {
	text := "Host " + s.alias() + "\n"
	for _, o := range s.Options(knownHosts) {
		if o != "-o" {
			text += "\t" + o + "\n"
		}
	}
	if user := s.user(); user != "" {
		text += "\tUser " + user + "\n"
	}
	return text
}

// join writes the file by which scp(1) gets to both VMs of a copy, and returns what removes it:
// options of its command line would be for both. The user's own settings come behind it. Nothing
// is done for a copy to or from the host.
func (c Client) join(s *Session, knownHosts string) (remove func(), err error) {
	if s.Copy == nil || s.Copy.From == nil {
		return func() {}, nil
	}
	others, err := s.Copy.From.Prepare(c.As, c.Home)
	if err != nil {
		return nil, err
	}
	text := s.Copy.From.lines(others) + s.lines(knownHosts) + "Match all\n"
	if c.Home != "" {
		text += "\tInclude " + escape(filepath.Join(c.Home, ".ssh/config")) + "\n"
	}
	text += "\tInclude /etc/ssh/ssh_config\n"
	err = c.As.Do(func() error {
		f, err := os.CreateTemp(filepath.Dir(knownHosts), ".cp-*")
		if err != nil {
			return err
		}
		s.Copy.config = f.Name()
		_, err = f.WriteString(text)
		if err = errors.Join(err, f.Close()); err != nil {
			os.Remove(f.Name())
		}
		return err
	})
	return func() { c.As.Do(func() error { return os.Remove(s.Copy.config) }) }, err //nolint:errcheck // it holds no secret
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
	if c.From != nil {
		here = func(path string) string { return c.From.alias() + ":" + path }
	}
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
