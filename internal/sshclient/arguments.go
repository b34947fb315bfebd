package sshclient

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/qnet-vm/qnet/netsetup/dns"
)

// withValue are ssh's options that take a value, and withoutValue those that take none
// (ssh(1), OpenSSH 9).
const (
	withValue    = "BbcDEeFIiJLlmOopQRSWwP"
	withoutValue = "46AaCfGgKkMNnqsTtVvXxYy12"
)

// Request is what a user asks `qnet ssh` for.
type Request struct {
	VM      string
	Login   string   // "" leaves the name to ssh
	Options []string // of ssh, in their order, without the login
	Command []string // nil starts a shell
	Words   []string // of Command, as the caller gave them to ParseExec
	Agent   bool     // QEMU's guest agent runs the command, in place of ssh; of ParseExec
	Port    string   // that ssh connects to, "22" by default

	Timeout time.Duration // to wait for the port
	NoWait  bool          // for a guest that boots
	Print   bool          // the command line instead
	PrintOptions,
	Help bool
}

// Parse reads the arguments of `qnet ssh`, which are those of ssh(1) with the name of a
// VM for the host, and options of qnet's own, which begin with "--". As with ssh, options
// may stand on both sides of the name. The command begins at the first word behind it
// that is no option, or behind "--".
func Parse(args []string, timeout time.Duration) (Request, error) {
	r := Request{Timeout: timeout, Port: "22"}
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		var err error
		switch {
		case word == "--" && r.VM != "":
			r.Command = args
			return r, nil
		case word == "--":
			if len(args) == 0 {
				return r, nil
			}
			r.host(args[0])
			r.Command = args[1:]
			if len(r.Command) > 0 && r.Command[0] == "--" {
				r.Command = r.Command[1:]
			}
			return r, nil
		case strings.HasPrefix(word, "--"):
			args, err = r.own(word, args)
		case len(word) > 1 && word[0] == '-':
			args, err = r.letters(word, args)
		case r.VM == "":
			r.host(word)
		default:
			r.Command = append([]string{word}, args...)
			return r, nil
		}
		if err != nil {
			return r, err
		}
	}
	return r, nil
}

// host reads [USER@]NAME, with or without the domain of VMs.
func (r *Request) host(word string) {
	if i := strings.LastIndex(word, "@"); i >= 0 {
		r.Login, word = word[:i], word[i+1:]
	}
	r.VM = strings.TrimSuffix(word, "."+dns.Domain)
}

// own reads an option of qnet's, and returns the arguments behind it.
func (r *Request) own(word string, rest []string) ([]string, error) {
	name, value, has := strings.Cut(strings.TrimPrefix(word, "--"), "=")
	flags := map[string]*bool{"print": &r.Print, "print-options": &r.PrintOptions, "no-wait": &r.NoWait, "help": &r.Help}
	if flag := flags[name]; flag != nil {
		if has {
			return rest, fmt.Errorf("ssh: --%s takes no value", name)
		}
		*flag = true
		return rest, nil
	}
	if name != "login" && name != "timeout" {
		return rest, fmt.Errorf("ssh: unknown option --%s; allowed: --login, --timeout, --no-wait, --print, --print-options, and the options of ssh(1)", name)
	}
	if !has {
		if len(rest) == 0 {
			return rest, fmt.Errorf("ssh: --%s needs a value", name)
		}
		value, rest = rest[0], rest[1:]
	}
	if name == "login" {
		r.Login = value
		return rest, nil
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 {
		return rest, fmt.Errorf("ssh: --timeout: got %.80q, allowed: a time such as 30s or 2m", value)
	}
	r.Timeout = d
	return rest, nil
}

// letters reads a word of ssh's options, such as -tt, -p22 or -ti, and returns the
// arguments behind it and its value.
func (r *Request) letters(word string, rest []string) ([]string, error) {
	for i := 1; i < len(word); i++ {
		letter := word[i]
		switch {
		case strings.IndexByte(withoutValue, letter) >= 0:
			r.Options = append(r.Options, "-"+string(letter))
			continue
		case strings.IndexByte(withValue, letter) < 0:
			return rest, fmt.Errorf("ssh: unknown option -%c; allowed: those of ssh(1), --login, --timeout, --no-wait, --print, --print-options", letter)
		}
		value := word[i+1:]
		if value == "" {
			if len(rest) == 0 {
				return rest, fmt.Errorf("ssh: option -%c needs a value", letter)
			}
			value, rest = rest[0], rest[1:]
		}
		r.option(letter, value)
		return rest, nil
	}
	return rest, nil
}

// option takes an option with its value, and notes what decides how qnet waits.
func (r *Request) option(letter byte, value string) {
	switch letter {
	case 'l':
		r.Login = value
		return
	case 'p':
		r.Port = value
	case 'o':
		if port, ok := setting(value, "port"); ok {
			r.Port = port
		}
	}
	r.Options = append(r.Options, "-"+string(letter), value)
}

// setting returns the value of a line of ssh_config(5), "Key=value" or "Key value", for
// the key in lower case.
func setting(line, key string) (value string, ok bool) {
	i := strings.IndexAny(line, " \t=")
	if i < 0 || strings.ToLower(line[:i]) != key {
		return "", false
	}
	return strings.Trim(line[i:], " \t=\""), true
}

// Batch reports whether ssh may never ask the user for a password.
func (r *Request) Batch() bool {
	return slices.ContainsFunc(r.Options, func(o string) bool {
		value, ok := setting(o, "batchmode")
		return ok && strings.EqualFold(value, "yes")
	})
}

// namesUser reports whether the user names the account by an option of ssh's.
func (r *Request) namesUser() bool {
	return slices.ContainsFunc(r.Options, func(o string) bool {
		_, ok := setting(o, "user")
		return ok
	})
}

// namesKey reports whether the user names a key to log in by.
func (r *Request) namesKey() bool {
	return slices.Contains(r.Options, "-i") || slices.ContainsFunc(r.Options, func(o string) bool {
		_, ok := setting(o, "identityfile")
		return ok
	})
}
