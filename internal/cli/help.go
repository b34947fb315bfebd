package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

const indent = "   "

// ShowAppHelp writes the help text of the App.
func ShowAppHelp(c *Context) error {
	a := c.App
	var b strings.Builder
	section(&b, "NAME", a.Name+" - "+a.Usage)
	section(&b, "USAGE", a.UsageText)
	var rows [][2]string
	for _, command := range a.Commands {
		if !command.Hidden {
			rows = append(rows, [2]string{command.Name, command.Usage})
		}
	}
	rows = append(rows, [2]string{strings.Join(helpNames, ", "), "show the commands, or the help of one"})
	section(&b, "COMMANDS", columns(rows))
	section(&b, "GLOBAL OPTIONS", columns(flagRows(a.Flags)))
	return write(a.Writer, b.String())
}

// ShowSubcommandHelp writes the help text of the Context's command.
func ShowSubcommandHelp(c *Context) error { return showCommandHelp(c.App, c.Command) }

func showCommandHelp(a *App, c *Command) error {
	var b strings.Builder
	name := a.Name + " " + c.Name
	section(&b, "NAME", name+" - "+c.Usage)
	section(&b, "USAGE", strings.TrimSpace(name+" [command options] "+c.ArgsUsage))
	if c.Description != "" {
		section(&b, "DESCRIPTION", c.Description)
	}
	section(&b, "OPTIONS", columns(flagRows(c.Flags)))
	return write(a.Writer, b.String())
}

// write writes a help text, whose sections are separated by empty lines.
func write(w io.Writer, text string) error {
	_, err := io.WriteString(w, strings.TrimPrefix(text, "\n"))
	return err
}

// section adds a heading and indented lines.
func section(b *strings.Builder, heading, text string) {
	fmt.Fprintf(b, "\n%s:\n", heading)
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) != "" {
			b.WriteString(indent)
		}
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
}

// columns sets rows of two columns.
func columns(rows [][2]string) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\n", r[0], r[1])
	}
	w.Flush() //nolint:errcheck // a strings.Builder takes everything
	return b.String()
}

// flagRows returns the flags that help shows, and what each is for.
func flagRows(flags []Flag) [][2]string {
	var rows [][2]string
	for _, f := range append(append([]Flag{}, flags...), helpFlag) {
		if !f.IsVisible() {
			continue
		}
		text, defaultText := f.usage()
		value, text := placeholder(text)
		var names []string
		for _, name := range f.Names() {
			dashes := "--"
			if len(name) == 1 {
				dashes = "-"
			}
			names = append(names, strings.TrimSpace(dashes+name+" "+value))
		}
		if defaultText != "" {
			text += " (default: " + defaultText + ")"
		}
		rows = append(rows, [2]string{strings.Join(names, ", "), text})
	}
	return rows
}

// placeholder returns the word between backquotes, and the text without these.
func placeholder(usage string) (word, text string) {
	before, rest, found := strings.Cut(usage, "`")
	word, after, closed := strings.Cut(rest, "`")
	if !found || !closed {
		return "", usage
	}
	return word, before + word + after
}
