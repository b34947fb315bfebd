package strict

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/pelletier/go-toml/v2"

	"github.com/qnet-vm/qnet/internal/pattern"
)

// syntax reports why the text is no TOML, and what the user probably meant to write.
func (d *Decoder) syntax(text []byte, err error) {
	// The library gives no position for a key defined twice.
	e := &Error{File: d.File, Line: d.twice, Msg: strings.TrimPrefix(err.Error(), "toml: ")}
	var at *toml.DecodeError
	if errors.As(err, &at) {
		e.Line, _ = at.Position()
		e.Key = strings.Join(at.Key(), ".")
	}
	if lines := strings.Split(string(text), "\n"); at != nil && e.Line > 0 && e.Line <= len(lines) {
		d.explain(e, strings.TrimSuffix(lines[e.Line-1], "\r"))
	}
	d.errs = append(d.errs, e)
}

// otherLanguages are how texts of other languages begin.
var otherLanguages = map[string]string{
	"{": "%s is TOML, not JSON: key = value, one a line", "<": "%s is TOML, not XML: key = value, one a line",
	";": "a comment begins with #", "//": "a comment begins with #", "---": "%s is TOML, not YAML: key = value, one a line",
}

// assignment matches a line that sets a key: the key, what stands for "=", the value.
var assignment = pattern.Of(`^\s*([A-Za-z0-9_.-]+)(\s*[=:]\s*|\s+)(\S.*?)\s*$`)

// explain words the problem of a line that the library does not take.
func (d *Decoder) explain(e *Error, line string) {
	if r, ok := oddity(line); ok {
		e.Msg = fmt.Sprintf("got %s, %s", visible(r.char), r.what)
		line = plainSpelling.Replace(line)
		if m := assignment().FindStringSubmatch(line); m != nil && isTOML(line) {
			e.Key, e.Msg = m[1], fmt.Sprintf("%s; write %s", e.Msg, strings.TrimSpace(line))
			return
		}
		e.Msg += "; " + r.remedy
		return
	}
	for begin, why := range otherLanguages {
		if strings.HasPrefix(strings.TrimSpace(line), begin) {
			e.Msg += "; " + strings.Replace(why, "%s", d.language.What, 1)
			return
		}
	}
	if noEnd(e, line) {
		return
	}
	if strings.HasPrefix(e.Msg, "expected newline") {
		e.Msg += "; a line sets one key, and a comment begins with #"
	}
	m := assignment().FindStringSubmatch(uncommented(line))
	if m == nil {
		return
	}
	if strings.Contains(e.Msg, "escape") {
		e.Key, e.Msg = m[1], e.Msg+`; in "..." a backslash begins an escape: write the text in '...'`
		return
	}
	if meant := valueMeant(m[3]); meant != "" && isTOML(m[1]+" = "+meant) {
		e.Key, e.Msg = m[1], fmt.Sprintf("got %s, which is not TOML; write %s = %s", Quote(strings.TrimSpace(line)), m[1], meant)
	}
}

// unended matches what the library says of such a string.
var unended = pattern.Of(`strings? (cannot have new lines|not terminated)|^unterminated .*string`)

// noEnd words the problem of a string that does not end on its line, perhaps with a
// quotation mark of another kind than it begins with.
func noEnd(e *Error, line string) bool {
	if !unended().MatchString(e.Msg) {
		return false
	}
	e.Msg = fmt.Sprintf("got %s, whose string has no end", Quote(strings.TrimSpace(line)))
	m := assignment().FindStringSubmatch(line)
	if m == nil {
		return true
	}
	e.Key = m[1]
	plain := plainSpelling.Replace(m[3])
	for _, value := range []string{plain, strings.TrimRight(plain, `'"`) + plain[:1]} {
		if isTOML("x = " + value) {
			e.Msg += fmt.Sprintf("; write %s = %s", m[1], value)
			break
		}
	}
	return true
}

// isTOML reports whether a line is TOML as it is.
func isTOML(line string) bool { return toml.Unmarshal([]byte(line), &map[string]any{}) == nil }

// valueMeant returns how TOML writes a value that another language writes differently: a
// text without quotes, yes for true, a comma or semicolon behind it.
func valueMeant(value string) string {
	value = strings.TrimRight(value, ",; \t")
	if b, ok := truth(value); ok {
		return fmt.Sprint(b)
	}
	switch {
	case value == "":
		return ""
	case strings.Trim(value, "0123456789") == "": // with zeros before it
		return cmp.Or(strings.TrimLeft(value, "0"), "0")
	case isTOML("x = " + value):
		return value
	case strings.ContainsAny(value, "\"'[]{}=\\"):
		return ""
	}
	return `"` + value + `"`
}

// truth reads the words for true and false of YAML and of configuration files.
func truth(word string) (value, ok bool) {
	switch strings.ToLower(word) {
	case "true", "yes", "on":
		return true, true
	case "false", "no", "off":
		return false, true
	}
	return false, false
}

// uncommented returns a line without its comment.
func uncommented(line string) string {
	var open rune
	for i, r := range line {
		switch {
		case open != 0:
			if r == open {
				open = 0
			}
		case r == '"' || r == '\'':
			open = r
		case r == '#':
			return line[:i]
		}
	}
	return line
}

// odd is a character outside of a string that only looks like one of TOML's.
type odd struct {
	char         rune
	what, remedy string
}

const (
	doubleQuotes = "“”„‟«»″＂"
	singleQuotes = "‘’‚‛‹›′＇"
	dashes       = "‐‑‒–—―−"
)

// plainSpelling writes the characters that look like TOML's as TOML's.
var plainSpelling = func() *strings.Replacer {
	var pairs []string
	for ascii, looks := range map[string]string{
		`"`: doubleQuotes, "'": singleQuotes, "-": dashes, " ": "\u00a0\u1680\u2007\u202f\u205f\u3000", "=": "＝",
		"": "\u200b\u200c\u200d\u2060\ufeff\u00ad\u2028\u2029",
	} {
		for _, r := range looks {
			pairs = append(pairs, string(r), ascii)
		}
	}
	return strings.NewReplacer(pairs...)
}()

// oddity finds the first such character that stands in no string and no comment.
func oddity(line string) (odd, bool) {
	var open rune
	for _, r := range line {
		switch {
		case open != 0:
			if r == open {
				open = 0
			}
			continue
		case r == '"' || r == '\'':
			open = r
			continue
		case r == '#':
			return odd{}, false
		}
		if o, ok := oddAs(r); ok {
			return o, true
		}
	}
	return odd{}, false
}

func oddAs(r rune) (odd, bool) {
	switch {
	case strings.ContainsRune(doubleQuotes+singleQuotes, r):
		return odd{r, "a typographic quotation mark", `write "`}, true
	case strings.ContainsRune(dashes, r):
		return odd{r, "a typographic dash", "write -"}, true
	case r != ' ' && unicode.In(r, unicode.Zs, unicode.Zl, unicode.Zp):
		return odd{r, "a space that is not TOML's, such as a non-breaking one", "write an ordinary space"}, true
	case unicode.Is(unicode.Cf, r), unicode.IsControl(r) && r != '\t':
		return odd{r, "a character that an editor does not show", "delete it"}, true
	case r == '＝':
		return odd{r, "a full-width equals sign", "write ="}, true
	}
	return odd{}, false
}

// visible returns the character, if it has a shape, and its number.
func visible(r rune) string {
	if unicode.IsGraphic(r) && !unicode.IsSpace(r) {
		return fmt.Sprintf("%c (%U)", r, r)
	}
	return fmt.Sprintf("%U", r)
}
