package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/pattern"
)

func unknownCommand(name string) error {
	return &call.Usage{Text: fmt.Sprintf("unknown command %q; qnet --help lists them", name)}
}

func usageError(c *cli.Context, err error, _ bool) error {
	text := flagWords(err.Error())
	switch name := c.Command.Name; name {
	case c.App.Name:
		return &call.Usage{Text: text + "; see qnet --help"}
	case "run":
		return &call.Usage{Text: "run: " + text + "; see qnet run --help; QEMU arguments go behind --"}
	default:
		return &call.Usage{Text: fmt.Sprintf("%s: %s; see qnet %s --help", name, text, name)}
	}
}

var (
	undefinedFlag = pattern.Of(`^flag provided but not defined: -(.*)$`)
	badValue      = pattern.Of(`^invalid (?:boolean )?value (".*") for (?:flag )?-([^:]+): (.*)$`)
)

// flagWords puts an error of package flag into qnet's words.
func flagWords(text string) string {
	if m := undefinedFlag().FindStringSubmatch(text); m != nil {
		return "unknown option " + dashed(m[1])
	}
	m := badValue().FindStringSubmatch(text)
	switch {
	case m == nil:
		return text
	case m[3] == "parse error" && !strings.HasPrefix(text, "invalid boolean"):
		return fmt.Sprintf("%s: got %s, allowed: a time such as 30s or 2m", dashed(m[2]), m[1])
	}
	return fmt.Sprintf("%s takes no value, got %s", dashed(m[2]), m[1])
}

// dashed writes an option as the help does.
func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
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
		if asksForHelp(arg) {
			return append(slices.Clone(args[:i+1]), arg), nil
		}
		flags = append(flags, arg)
		if takesValue(cmd.Flags, arg) {
			if j+1 == len(tail) {
				return nil, &call.Usage{Text: fmt.Sprintf("option %s needs a value", arg)}
			}
			j++
			flags = append(flags, tail[j])
		}
	}
	return slices.Concat(args[:i+1], flags, rest), nil
}

// asksForHelp reports whether the argument is the library's flag for help. Behind it, the library
// would take a command's first argument for another command, and show the help of that.
func asksForHelp(arg string) bool {
	return slices.Contains(cli.HelpFlag.Names(), strings.TrimLeft(arg, "-"))
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
