package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// usage is an error in the arguments.
type usage struct{ text string }

// Error returns the text.
func (u *usage) Error() string { return u.text }

func unknownCommand(name string) error {
	return &usage{fmt.Sprintf("unknown command %q; qnet --help lists them", name)}
}

func usageError(c *cli.Context, err error, _ bool) error {
	if strings.HasSuffix(err.Error(), "parse error") { // of a number without a unit
		err = fmt.Errorf("%w; allowed: a time such as 30s or 2m", err)
	}
	switch name := c.Command.Name; name {
	case c.App.Name:
		return &usage{err.Error()}
	case "run":
		return &usage{"run: " + err.Error() + "; QEMU arguments go behind --"}
	default:
		return &usage{name + ": " + err.Error()}
	}
}

// flagsFirst moves a command's flags before its operands, because the library ignores
// flags behind the first operand. What follows "--" stays where it is.
func flagsFirst(c *cli.App, args []string) ([]string, error) {
	i := commandIndex(c, args)
	if i < 0 {
		return args, nil
	}
	cmd := c.Command(args[i])
	if cmd == nil || cmd.SkipFlagParsing {
		return args, nil
	}
	var flags, rest []string
	tail := args[i+1:]
	for j := 0; j < len(tail); j++ {
		arg := tail[j]
		if arg == "--" {
			rest = append(rest, tail[j:]...)
			break
		}
		if !strings.HasPrefix(arg, "-") || arg == "-" {
			rest = append(rest, arg)
			continue
		}
		flags = append(flags, arg)
		if takesValue(cmd.Flags, arg) {
			if j+1 == len(tail) {
				return nil, &usage{fmt.Sprintf("flag %s needs a value", arg)}
			}
			j++
			flags = append(flags, tail[j])
		}
	}
	return slices.Concat(args[:i+1], flags, rest), nil
}

// commandIndex returns the place of the command, behind the global flags, or -1.
func commandIndex(c *cli.App, args []string) int {
	for i := 0; i < len(args); i++ {
		if !strings.HasPrefix(args[i], "-") {
			return i
		}
		if takesValue(c.Flags, args[i]) {
			i++
		}
	}
	return -1
}

// takesValue reports whether the next argument is the flag's value.
func takesValue(flags []cli.Flag, arg string) bool {
	if strings.Contains(arg, "=") {
		return false
	}
	name := strings.TrimLeft(arg, "-")
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			_, isBool := f.(*cli.BoolFlag)
			return !isBool
		}
	}
	return false
}

// operands returns the operands, one for each name.
func operands(c *cli.Context, names ...string) ([]string, error) {
	args := c.Args().Slice()
	if len(args) < len(names) {
		return nil, &usage{fmt.Sprintf("%s needs %s; see qnet %s --help", c.Command.Name, names[len(args)], c.Command.Name)}
	}
	if len(args) > len(names) {
		return nil, &usage{fmt.Sprintf("%s takes no argument %q; see qnet %s --help", c.Command.Name, args[len(names)], c.Command.Name)}
	}
	return args, nil
}
