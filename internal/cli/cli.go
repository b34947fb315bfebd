// Package cli is a command line of one level of commands, each with flags of its own: it
// finds the command, parses flags by package flag, and writes help texts. It has no use for
// text/template, which makes the linker keep every method of every type (2 MB).
//
// Flags come before operands. Values are looked up by a flag's name, in the command first
// and then in the App. Nothing here may be called concurrently.
package cli

import (
	"context"
	"flag"
	"io"
)

// App is a program.
type App struct {
	Name, Usage string
	UsageText   string // in place of the usage that is made from the name
	Version     string
	Writer      io.Writer // gets help texts
	Flags       []Flag
	Commands    []*Command
	// Before runs once the App's flags are read, before any Action, unless help is asked for.
	Before ActionFunc
	// Action runs without a command, and for words that name none.
	Action ActionFunc
	// OnUsageError words an error of package flag.
	OnUsageError UsageFunc
	// CommandNotFound gets a word that help is asked for and that is no command.
	CommandNotFound func(c *Context, name string)
}

// ActionFunc does what a command is for.
type ActionFunc func(c *Context) error

// UsageFunc words an error in the flags. The last argument is true in a Command.
type UsageFunc func(c *Context, err error, inCommand bool) error

// Command is one command.
type Command struct {
	Name, Usage     string
	ArgsUsage       string // the operands, for the usage
	Description     string // a longer text
	Flags           []Flag
	Hidden          bool
	SkipFlagParsing bool // the Action gets all words, also those that begin with "-"
	Action          ActionFunc
	OnUsageError    UsageFunc
}

// Context is one call of the App or of a Command.
type Context struct {
	context.Context
	App     *App
	Command *Command // in the App itself one of the App's name

	args   Args
	set    *flag.FlagSet
	parent *Context // the App's; nil for itself
}

// Args are the words behind the flags.
type Args []string

// Args returns the words behind the flags.
func (c *Context) Args() Args { return c.args }

// NArg returns how many words there are behind the flags.
func (c *Context) NArg() int { return len(c.args) }

// Slice returns all words.
func (a Args) Slice() []string { return append([]string{}, a...) }

// Len returns how many words there are.
func (a Args) Len() int { return len(a) }

// Present reports whether there are any.
func (a Args) Present() bool { return len(a) > 0 }

// First returns the first word, "" without one.
func (a Args) First() string { return a.Get(0) }

// Get returns the word at a place, counted from 0; "" if there are not so many.
func (a Args) Get(i int) string {
	if i >= len(a) {
		return ""
	}
	return a[i]
}

// helpFlag is every command's and the App's.
var helpFlag = &BoolFlag{Name: "help", Aliases: []string{"h"}, Usage: "show help"}

// helpNames are the words that show help.
var helpNames = []string{"help", "h"}

// Command returns the command of a name, nil without one.
func (a *App) Command(name string) *Command {
	for _, c := range a.Commands {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// RunContext runs a command line. args[0] is the program's name.
func (a *App) RunContext(ctx context.Context, args []string) error {
	c := &Context{Context: ctx, App: a, Command: &Command{Name: a.Name}}
	if err := c.parse(a.Flags, args[1:]); err != nil {
		return a.OnUsageError(c, err, false)
	}
	if c.Bool(helpFlag.Name) {
		return ShowAppHelp(c)
	}
	if err := a.Before(c); err != nil {
		return err
	}
	if command := a.Command(c.args.First()); command != nil {
		return command.run(c)
	}
	for _, name := range helpNames {
		if c.args.First() == name {
			return a.help(c, c.args[1:])
		}
	}
	return a.Action(c)
}

// help shows the help of the command that the words name, or of the App.
func (a *App) help(c *Context, words Args) error {
	command := a.Command(words.First())
	switch {
	case command != nil:
		return showCommandHelp(a, command)
	case words.Present():
		a.CommandNotFound(c, words.First())
		return nil
	}
	return ShowAppHelp(c)
}

// run runs the command on the words behind its name.
func (c *Command) run(parent *Context) error {
	ctx := &Context{Context: parent.Context, App: parent.App, Command: c, parent: parent}
	words := parent.args[1:]
	if c.SkipFlagParsing {
		ctx.set, ctx.args = newSet(c.Flags), words
		return c.Action(ctx)
	}
	if err := ctx.parse(c.Flags, words); err != nil {
		return c.OnUsageError(ctx, err, true)
	}
	if ctx.Bool(helpFlag.Name) {
		return ShowSubcommandHelp(ctx)
	}
	return c.Action(ctx)
}

// parse reads the flags. With an error, the flags that were read before it count.
func (c *Context) parse(flags []Flag, words []string) error {
	c.set = newSet(flags)
	err := c.set.Parse(words)
	c.args = c.set.Args()
	return err
}

func newSet(flags []Flag) *flag.FlagSet {
	set := flag.NewFlagSet("", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	for _, f := range append(append([]Flag{}, flags...), helpFlag) {
		f.define(set)
	}
	return set
}
