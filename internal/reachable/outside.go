package reachable

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/qnet-vm/qnet/internal/legible"
)

// Error tells that a profile names something that it may not reach.
type Error struct {
	Key  string // "disk[0].file"
	Path string // what the profile says there, as an absolute path
	Real string // where that leads

	allowed []string // the profile's own folder is the first
	folders *Folders
}

// Error says with file, line and key what was got and what is allowed.
func (e *Error) Error() string {
	leads, allowed := "", "that folder"
	if e.Real != filepath.Clean(e.Path) {
		leads = fmt.Sprintf("which leads to %q, ", e.Real)
	}
	for _, dir := range e.allowed[1:] {
		allowed += fmt.Sprintf(", %q", dir)
	}
	return e.folders.profile.Wrong(e.Key, "got %q, %soutside the profile's own folder %q; allowed: what is in %s, and what --allow-path names",
		e.Path, leads, e.folders.own, allowed).Error()
}

// Hint returns what the user can do about it.
func (e *Error) Hint() string { return Refusal{e}.Hint() }

// Refusal is all that a profile names and may not reach.
type Refusal []*Error

// Error has a line for each.
func (r Refusal) Error() string {
	lines := make([]string, len(r))
	for i, e := range r {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns them.
func (r Refusal) Unwrap() []error {
	errs := make([]error, len(r))
	for i, e := range r {
		errs[i] = e
	}
	return errs
}

// Hint returns the command that allows all of them, and how to allow them for good.
func (r Refusal) Hint() string {
	var places []string
	for _, e := range r {
		if !slices.Contains(places, quoted(e.Real)) {
			places = append(places, quoted(e.Real))
		}
	}
	f := r[0].folders
	hint := "if you mean it: qnet run --allow-path " + strings.Join(places, " --allow-path ") + " " + quoted(f.profile.Path)
	if f.config == "" {
		return hint
	}
	return fmt.Sprintf("%s; a line with the path in %s allows it to all profiles", hint, quoted(filepath.Join(f.config, settingsFile)))
}

// Others leaves out of an error, which may be several, what is about files outside: all of that is
// in the error of [Folders.All].
func Others(err error) error {
	if several, ok := err.(interface{ Unwrap() []error }); ok { // of itself, not of one within
		var errs []error
		for _, one := range several.Unwrap() {
			errs = append(errs, Others(one))
		}
		return errors.Join(errs...)
	}
	if _, outside := errors.AsType[*Error](err); outside {
		return nil
	}
	return err
}

// quoted returns a path as a POSIX shell reads it; one with what could drive a terminal as
// bash does (ANSI-C quoting in bash(1)).
func quoted(path string) string {
	inner := strconv.Quote(path)
	inner = inner[1 : len(inner)-1]
	if inner != strings.ReplaceAll(strings.ReplaceAll(path, `\`, `\\`), `"`, `\"`) {
		return "$'" + strings.ReplaceAll(inner, "'", `\'`) + "'"
	}
	return legible.Word(path)
}
