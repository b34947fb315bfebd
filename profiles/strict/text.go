package strict

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// byteOrderMark is U+FEFF in UTF-8. Windows editors and PowerShell write it before a
// text; TOML knows it not.
var byteOrderMark = []byte("\ufeff")

// text returns what the decoder reads: the file without a byte order mark. ok is false
// for what is no text of TOML: UTF-8 with lines that end in LF or CR LF (TOML 1.0, Spec).
func (d *Decoder) text(data []byte) (text []byte, ok bool) {
	if len(data) > MaxSize {
		d.Fail("", "the file is larger than %d KiB: is it %s?", MaxSize>>10, d.language.What)
		return nil, false
	}
	if isUTF16(data) {
		d.Fail("", "not text (UTF-8): it is UTF-16, as PowerShell's > and Notepad's \"Unicode\" write it; save it as UTF-8, or convert it: iconv -f UTF-16 -t UTF-8")
		return nil, false
	}
	data = bytes.TrimPrefix(data, byteOrderMark)
	if i := noText(data); i >= 0 {
		d.failAt(lineAt(data, i), "not text (UTF-8): got the byte 0x%02x; is it %s, saved as UTF-8?", data[i], d.language.What)
		return nil, false
	}
	if i := loneCR(data); i >= 0 {
		d.failAt(lineAt(data, i), "the line ends with CR (U+000D) alone; end lines with LF or CR LF, or convert it: tr '\\r' '\\n'")
		return nil, false
	}
	return data, true
}

// isUTF16 reports whether the data begins with UTF-16's byte order mark, or as a text in
// ASCII would begin in UTF-16.
func isUTF16(data []byte) bool {
	for _, mark := range []string{"\xff\xfe", "\xfe\xff"} {
		if bytes.HasPrefix(data, []byte(mark)) {
			return true
		}
	}
	if len(data) < 4 || len(data)%2 != 0 {
		return false
	}
	return data[0] >= '\t' && data[1] == 0 && data[2] >= '\t' && data[3] == 0 ||
		data[0] == 0 && data[1] >= '\t' && data[2] == 0 && data[3] >= '\t'
}

// noText returns the place of the first byte that is NUL or not UTF-8, or -1.
func noText(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == 0 || r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// loneCR returns the place of the first CR without LF, or -1.
func loneCR(data []byte) int {
	for i, b := range data {
		if b == '\r' && (i+1 == len(data) || data[i+1] != '\n') {
			return i
		}
	}
	return -1
}

// lineAt returns the line of a byte, from 1.
func lineAt(data []byte, i int) int { return 1 + bytes.Count(data[:i], []byte("\n")) }

// failAt reports a problem of a line that is no key's.
func (d *Decoder) failAt(line int, format string, args ...any) {
	d.errs = append(d.errs, &Error{File: d.File, Line: line, Msg: fmt.Sprintf(format, args...)})
}

func describe(v any) string {
	switch v := v.(type) {
	case string:
		return "the string " + Quote(v)
	case float64:
		text := strconv.FormatFloat(v, 'f', -1, 64)
		if !strings.Contains(text, ".") {
			text += ".0"
		}
		return text
	case map[string]any:
		return "a table"
	case []any:
		return "an array"
	default:
		return fmt.Sprintf("%v", v)
	}
}

// Quote shows a string on one line, however long.
func Quote(s string) string {
	if len(s) > 80 {
		return strconv.Quote(s[:80]) + "..."
	}
	return strconv.Quote(s)
}
