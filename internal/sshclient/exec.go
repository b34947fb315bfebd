package sshclient

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/qnet-vm/qnet/internal/legible"
)

// ErrHelp is returned where the user asks for help.
var ErrHelp = errors.New("help is asked for")

// ParseExec reads the arguments of `qnet exec`: options, [USER@]NAME and the command, before
// which "--" may stand. The command's words reach it as they are, whatever the guest's
// shell would make of them.
func ParseExec(args []string, timeout time.Duration) (Request, error) {
	r := Request{Timeout: timeout, Port: "22", Options: []string{"-T"}}
	for len(args) > 0 && r.VM == "" {
		var err error
		if args, err = r.execOption(args[0], args[1:]); err != nil {
			return r, err
		}
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	switch {
	case r.VM == "":
		return r, errors.New("exec needs NAME; see qnet exec --help")
	case len(args) == 0:
		return r, errors.New("exec needs a command; qnet ssh " + r.VM + " starts a shell")
	}
	r.Command, r.Words = []string{legible.Words(args)}, args
	return r, nil
}

// execOption reads an option of `qnet exec`, or NAME, and returns the arguments behind it.
func (r *Request) execOption(word string, rest []string) ([]string, error) {
	name, _, _ := strings.Cut(word, "=")
	switch {
	case word == "--help" || word == "-h":
		return nil, ErrHelp
	case word == "--agent":
		r.Agent = true
		return rest, nil
	case word == "-t" || word == "--tty":
		r.Options = []string{"-tt"}
		return rest, nil
	case strings.HasPrefix(word, "-l") && len(word) > len("-l"):
		r.Login = word[len("-l"):]
		return rest, nil
	case word == "-l":
		word = "--login"
	case name != "--login" && name != "--timeout" && strings.HasPrefix(word, "-"):
		return nil, fmt.Errorf("exec: unknown option %s; allowed: --agent, --tty, --login, --timeout, before NAME", word)
	case name != "--login" && name != "--timeout":
		r.host(word)
		return rest, nil
	}
	rest, err := r.own(word, rest)
	if err != nil {
		err = errors.New("exec" + strings.TrimPrefix(err.Error(), "ssh"))
	}
	return rest, err
}
