package call

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/internal/legible"
)

// Usage is an error in the arguments: exit code 2.
type Usage struct{ Text string }

// Error returns the text in one line: it may have parts of the command line.
func (u *Usage) Error() string { return legible.Text(u.Text) }

// UnknownVerb refuses the first argument of a command, or that there is none, where the command
// takes one of the allowed verbs.
func UnknownVerb(command string, args, allowed []string) *Usage {
	got := "nothing"
	if len(args) > 0 {
		got = fmt.Sprintf("%q", args[0])
	}
	return &Usage{Text: fmt.Sprintf("%s: got %s, allowed: %s; see qnet %s --help", command, got, strings.Join(allowed, ", "), command)}
}

// ExitStatus makes an exit code that of qnet: another program's, or one that a table
// explains.
type ExitStatus struct{ Code int }

// Error returns a text that is not printed: the user has seen the cause.
func (e *ExitStatus) Error() string { return fmt.Sprintf("exit status %d", e.Code) }

// ErrSilent is joined to an error that was printed already and still decides the exit
// code.
var ErrSilent = errors.New("already reported")

// Again returns the global options of this invocation, for another qnet that it starts: that
// one gets the same environment, and so comes to the same directories.
func Again(c *cli.Context) []string {
	var args []string
	for _, flag := range []string{"run-dir", "state-dir"} {
		if dir := c.String(flag); dir != "" {
			args = append(args, "--"+flag, dir)
		}
	}
	return args
}

// JSONFlag returns the flag of each command that prints a table.
func JSONFlag() cli.Flag { return &cli.BoolFlag{Name: "json", Usage: "print JSON"} }

// Operands returns the operands, one for each name. Fewer or more are a Usage error, and so is an
// empty one, as of a shell's variable that is not set, but for a TEXT.
func Operands(c *cli.Context, names ...string) ([]string, error) {
	args := c.Args().Slice()
	if len(args) < len(names) {
		return nil, &Usage{Text: fmt.Sprintf("%s needs %s; see qnet %s --help", c.Command.Name, names[len(args)], c.Command.Name)}
	}
	if len(args) > len(names) {
		return nil, &Usage{Text: fmt.Sprintf("%s takes no argument %q; see qnet %s --help", c.Command.Name, args[len(names)], c.Command.Name)}
	}
	for i, name := range names {
		if args[i] == "" && name != "TEXT" {
			return nil, &Usage{Text: fmt.Sprintf("%s: %s is empty; see qnet %[1]s --help", c.Command.Name, name)}
		}
	}
	return args, nil
}
