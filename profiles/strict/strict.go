// Package strict reads TOML strictly into structs: an unknown key, a wrong type, a value
// that a tag does not allow is a problem with file, line and key, and with what the user
// probably meant. It knows no key itself: a [Language] describes a kind of file, and the
// tags of its structs the keys.
//
//	toml     the key; "*" stands for a name the user chooses
//	enum     allowed strings, comma-separated
//	pattern  regular expression a string must match
//	words    the same in words, for errors
//	off      the key of a string also takes false, which leaves the string empty
//	range    smallest and largest number
//	most     how many elements an array may have, for the schema
//	default  the value without the key, for the schema
//	required the key must be there
//	doc      one sentence for the schema
//
// Fields are strings, int64, bool, structs, slices of these, and maps of structs by names
// that the user chooses. The package touches no file; its functions may be called
// concurrently, a Decoder is one goroutine's.
package strict

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"unicode"

	"github.com/qnet-vm/qnet/internal/legible"
)

// MaxSize is the largest file read, in bytes.
const MaxSize = 256 << 10

// Language is a kind of file.
type Language struct {
	What    string                            // in messages: "a profile"
	Names   func() *regexp.Regexp             // names of tables that the user chooses
	Tables  []Table                           // where a key can belong that stands elsewhere
	TableOf func(path string) string          // name of the table of a path, by which Tables and Foreign know it
	Foreign map[string]string                 // keys of other programs as "table.key", and what the file calls them
	Meant   func(key, text string) (s string) // the text that a value of the key stands for, "" for none
}

// Table is one of the file's tables.
type Table struct {
	Name, Where string // "nic", "in [[nic]]"
	Of          reflect.Type
}

// Error is one problem of a file.
type Error struct {
	File string // as given
	Line int    // from 1; 0 = the file as a whole
	Key  string // "nic[0].mode", "" for the file as a whole
	Msg  string // what was got and what is allowed
}

// Error returns "vm.toml:12: nic[0].mode: got ..., allowed: ...".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(shown(e.File))
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	if e.Key != "" {
		b.WriteString(": " + shown(e.Key))
	}
	return b.String() + ": " + legible.Text(e.Msg)
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

// shown returns a key, or the name of a file, that may come from another person: quoted if it
// could drive a terminal, or is too long to be read.
func shown(s string) string {
	if strings.ContainsFunc(s, unprintable) || len(s) > longName {
		return Quote(s)
	}
	return s
}

// longName is as long as a path with its directories may be, in bytes (PATH_MAX in linux/limits.h).
const longName = 4096

// Errors are all problems of a file in its order.
type Errors []*Error

// Error returns one problem a line.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}
