package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

var errUsage = errors.New("usage")

// program returns an App that writes to out what it was called with.
func program(out *bytes.Buffer) *App {
	say := func(c *Context) error {
		fmt.Fprintf(out, "%s %v all=%v text=%s time=%s dir=%s set=%v", c.Command.Name, c.Args().Slice(), c.Bool("all"), c.String("text"), c.Duration("time"), c.String("dir"), c.IsSet("text"))
		return nil
	}
	bad := func(c *Context, err error, inCommand bool) error {
		return fmt.Errorf("%s %v %w: %w", c.Command.Name, inCommand, errUsage, err)
	}
	flags := []Flag{
		&BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "take all"},
		&StringFlag{Name: "text", Usage: "write `WORDS`", Value: "none"},
		&DurationFlag{Name: "time", Usage: "wait for `TIME`", Value: time.Minute},
		&BoolFlag{Name: "secret", Hidden: true},
	}
	return &App{
		Name: "p", Usage: "try it", UsageText: "p COMMAND", Writer: out, OnUsageError: bad,
		Flags: []Flag{&StringFlag{Name: "dir", Usage: "keep it in `DIR`"}},
		Before: func(c *Context) error {
			if c.String("dir") == "bad" {
				return errors.New("before")
			}
			return nil
		},
		Action:          say,
		CommandNotFound: func(_ *Context, name string) { fmt.Fprintf(out, "no %s", name) },
		Commands: []*Command{
			{Name: "do", Usage: "do it", ArgsUsage: "NAME", Description: "One.\n\nTwo.", Flags: flags, Action: say, OnUsageError: bad},
			{Name: "raw", Usage: "all words", SkipFlagParsing: true, Flags: flags, Action: say, OnUsageError: bad},
			{Name: "hidden", Hidden: true, Action: say, OnUsageError: bad},
		},
	}
}

func TestRun(t *testing.T) {
	const rest = " text=none time=1m0s dir= set=false"
	for args, want := range map[string]string{
		"do x y":                     "do [x y] all=false" + rest,
		"do -a --text=b --time 2s x": "do [x] all=true text=b time=2s dir= set=true",
		"--dir d do --all":           "do [] all=true text=none time=1m0s dir=d set=false",
		"do -- --all":                "do [--all] all=false" + rest,
		"raw --all -- x":             "raw [--all -- x] all=false" + rest,
		"raw -h":                     "raw [-h] all=false" + rest,
		"hidden":                     "hidden [] all=false text= time=0s dir= set=false",
		"":                           "p [] all=false text= time=0s dir= set=false",
		"frob x":                     "p [frob x] all=false text= time=0s dir= set=false",
		"help frob":                  "no frob",
		"do --frob":                  "error: do true usage: flag provided but not defined: -frob",
		"--frob do":                  "error: p false usage: flag provided but not defined: -frob",
		"do --time=x":                `error: do true usage: invalid value "x" for flag -time: parse error`,
		"do --all=x":                 `error: do true usage: invalid boolean value "x" for -all: parse error`,
		"--dir bad do":               "error: before",
		"do --help x":                help,
		"help do":                    help,
		"--dir bad --help":           appHelp,
		"h":                          appHelp,
	} {
		var out bytes.Buffer
		err := program(&out).RunContext(context.Background(), append([]string{"p"}, strings.Fields(args)...))
		got := out.String()
		if err != nil {
			got += "error: " + err.Error()
		}
		if got != want {
			t.Errorf("p %s: got\n%s\nwant\n%s", args, got, want)
		}
	}
}

const help = `NAME:
   p do - do it

USAGE:
   p do [command options] NAME

DESCRIPTION:
   One.

   Two.

OPTIONS:
   --all, -a     take all
   --text WORDS  write WORDS (default: "none")
   --time TIME   wait for TIME (default: 1m0s)
   --help, -h    show help
`

const appHelp = `NAME:
   p - try it

USAGE:
   p COMMAND

COMMANDS:
   do       do it
   raw      all words
   help, h  show the commands, or the help of one

GLOBAL OPTIONS:
   --dir DIR   keep it in DIR
   --help, -h  show help
`
