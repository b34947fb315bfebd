// Package legible makes text that others chose, a guest, a neighbour, a profile's author or
// another user, safe to print: nothing in it drives a terminal (console_codes(4)), and nothing
// reorders what stands beside it; or to give to a shell. It is pure.
package legible

import (
	"bytes"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
)

// Text returns s with everything that is not printable escaped as in Go: control characters,
// those of C1 too, line ends, and marks that change the direction of text. Bytes that are no
// UTF-8, which some terminals take for C1, become U+FFFD.
func Text(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if !strings.ContainsFunc(s, odd) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if odd(r) {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Lines is Text for a text of several lines: their ends stay, and tabs.
func Lines(s string) string {
	if !strings.ContainsAny(s, "\n\t") {
		return Text(s)
	}
	var b strings.Builder
	for {
		i := strings.IndexAny(s, "\n\t")
		if i < 0 {
			break
		}
		b.WriteString(Text(s[:i]) + s[i:i+1])
		s = s[i+1:]
	}
	return b.String() + Text(s)
}

// JSON returns JSON in which nothing drives a terminal, and which says the same: what would, is
// within strings, and JSON has an escape for it (RFC 8259, 7).
func JSON(b []byte) []byte {
	if !bytes.ContainsFunc(b, oddInJSON) {
		return b
	}
	var to bytes.Buffer
	for _, r := range string(b) {
		if !oddInJSON(r) {
			to.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			hex := strconv.FormatUint(uint64(unit), 16)
			to.WriteString(`\u` + strings.Repeat("0", 4-len(hex)) + hex)
		}
	}
	return to.Bytes()
}

// Words returns words as a POSIX shell reads them, with spaces between. Unlike Text it changes
// nothing in them.
func Words(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = Word(w)
	}
	return strings.Join(quoted, " ")
}

// Word is Words for one.
func Word(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+,./:@%"
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func odd(r rune) bool { return !unicode.IsPrint(r) }

func oddInJSON(r rune) bool { return odd(r) && r != '\n' }
