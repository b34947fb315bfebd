package cli

import (
	"flag"
	"fmt"
	"time"
)

// Flag is a flag of a command or of the App.
type Flag interface {
	// Names returns the names without dashes, the one first that Context looks values up by.
	Names() []string
	// IsVisible reports whether help texts and completion show the flag.
	IsVisible() bool

	define(set *flag.FlagSet)
	usage() (text, defaultText string)
}

// BoolFlag is a flag without a value. A "`WORD`" in a Usage names the value.
type BoolFlag struct {
	Name    string
	Aliases []string
	Usage   string
	Hidden  bool
}

// StringFlag is a flag whose value is any text.
type StringFlag struct {
	Name    string
	Aliases []string
	Usage   string
	Value   string // the default
	Hidden  bool
}

// DurationFlag is a flag whose value is a time such as 30s or 2m.
type DurationFlag struct {
	Name    string
	Aliases []string
	Usage   string
	Value   time.Duration // the default
	Hidden  bool
}

// Names returns the names, see Flag.
func (f *BoolFlag) Names() []string { return append([]string{f.Name}, f.Aliases...) }

// Names returns the names, see Flag.
func (f *StringFlag) Names() []string { return append([]string{f.Name}, f.Aliases...) }

// Names returns the names, see Flag.
func (f *DurationFlag) Names() []string { return append([]string{f.Name}, f.Aliases...) }

// IsVisible reports whether help shows the flag.
func (f *BoolFlag) IsVisible() bool { return !f.Hidden }

// IsVisible reports whether help shows the flag.
func (f *StringFlag) IsVisible() bool { return !f.Hidden }

// IsVisible reports whether help shows the flag.
func (f *DurationFlag) IsVisible() bool { return !f.Hidden }

func (f *BoolFlag) define(set *flag.FlagSet) {
	value := new(bool)
	for _, name := range f.Names() {
		set.BoolVar(value, name, false, "")
	}
}

func (f *StringFlag) define(set *flag.FlagSet) {
	value := new(string)
	for _, name := range f.Names() {
		set.StringVar(value, name, f.Value, "")
	}
}

func (f *DurationFlag) define(set *flag.FlagSet) {
	value := new(time.Duration)
	for _, name := range f.Names() {
		set.DurationVar(value, name, f.Value, "")
	}
}

func (f *BoolFlag) usage() (text, defaultText string) { return f.Usage, "" }

func (f *StringFlag) usage() (text, defaultText string) {
	if f.Value != "" {
		defaultText = fmt.Sprintf("%q", f.Value)
	}
	return f.Usage, defaultText
}

func (f *DurationFlag) usage() (text, defaultText string) { return f.Usage, f.Value.String() }

// value returns a flag's value in the command or the App that has it; nil if neither has.
func (c *Context) value(name string) any {
	for ; c != nil; c = c.parent {
		if f := c.set.Lookup(name); f != nil {
			return f.Value.(flag.Getter).Get() // as those of package flag are
		}
	}
	return nil
}

// Bool returns the value of a BoolFlag, false if there is no such flag.
func (c *Context) Bool(name string) bool {
	v, _ := c.value(name).(bool)
	return v
}

// String returns the value of a StringFlag, "" if there is no such flag.
func (c *Context) String(name string) string {
	v, _ := c.value(name).(string)
	return v
}

// Duration returns the value of a DurationFlag, 0 if there is no such flag.
func (c *Context) Duration(name string) time.Duration {
	v, _ := c.value(name).(time.Duration)
	return v
}

// IsSet reports whether the user gave the flag, by this name, in the command.
func (c *Context) IsSet(name string) bool {
	found := false
	c.set.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}
