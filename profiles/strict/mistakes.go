package strict

import (
	"fmt"
	"net"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// meant says which key a user probably meant by an unknown one, "" without a guess.
// path is the table's, names are its keys.
func (d *Decoder) meant(path, key string, names []string) string {
	table := d.language.TableOf(path)
	if other, ok := d.language.Foreign[table+"."+strings.ToLower(key)]; ok {
		if rest, nothing := strings.CutPrefix(other, "nothing: "); nothing {
			return rest
		}
		return "did you mean " + other + "?"
	}
	if near := nearest(key, names); near != "" {
		return "did you mean " + near + "?"
	}
	return d.elsewhere(table, key)
}

// elsewhere says which table has the key.
func (d *Decoder) elsewhere(table, key string) string {
	for _, t := range d.language.Tables {
		if t.Name != table && slices.Contains(keysOf(t.Of), key) {
			return key + " belongs " + t.Where
		}
	}
	return ""
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for i := range t.NumField() {
		keys = append(keys, t.Field(i).Tag.Get("toml"))
	}
	return keys
}

// nearest returns the name that a typing error made the key of, "" if none is near.
func nearest(key string, names []string) string {
	best, least := "", max(1, len(key)/3)+1
	for _, name := range names {
		if n := edits(strings.ToLower(key), name); n < least {
			best, least = name, n
		}
	}
	return best
}

// edits counts the characters to insert, delete, replace or swap with their neighbour
// that make b of a (optimal string alignment distance).
func edits(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			n := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				n = min(n, rows[i-2][j-2]+1)
			}
			rows[i][j] = n
		}
	}
	return rows[len(a)][len(b)]
}

// instead returns how the key is written rightly with a value of the wrong type or form,
// as "; write memory = \"2048MiB\"", and "" if that cannot be told.
func (d *Decoder) instead(path string, v any, kind reflect.Kind, tag reflect.StructTag) string {
	key := path[strings.LastIndexAny(path, ".]")+1:]
	text := fmt.Sprint(v)
	if list, ok := v.([]any); ok && len(list) == 1 {
		text = fmt.Sprint(list[0])
	}
	switch kind {
	case reflect.String:
		text = d.language.Meant(key, text)
		if text != "" && fits(text, tag) {
			return fmt.Sprintf("; write %s = %q", key, text)
		}
	case reflect.Int64:
		n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(text), ".0"), 10, 64)
		if err == nil && inRange(n, tag) {
			return fmt.Sprintf("; write %s = %d", key, n)
		}
	case reflect.Bool:
		if b, ok := truth(text); ok || text == "1" || text == "0" {
			return fmt.Sprintf("; write %s = %t", key, b || text == "1")
		}
	}
	return ""
}

// form says what a value of the key looks like, behind the name of its type.
func form(tag reflect.StructTag) string {
	enum, words, limits := tag.Get("enum"), tag.Get("words"), tag.Get("range")
	switch {
	case enum != "":
		return ": " + strings.ReplaceAll(enum, ",", ", ") + orFalse(tag)
	case words != "":
		return ": " + words
	case limits != "":
		return ", " + strings.ReplaceAll(limits, ",", " to ")
	}
	return ""
}

// orFalse says that a string's key also takes false, which leaves the string empty.
func orFalse(tag reflect.StructTag) string {
	if tag.Get("off") == "" {
		return ""
	}
	return ", or false without quotes"
}

// spelled returns the allowed word that a user probably meant, as a part of a sentence.
func spelled(path, got string, allowed []string) string {
	key := path[strings.LastIndexAny(path, ".]")+1:]
	word := strings.ToLower(strings.Trim(got, " \u00a0"+doubleQuotes+singleQuotes))
	word = strings.NewReplacer("_", "-", " ", "-", "hostonly", "host-only", "bridged", "bridge", "img", "raw").Replace(word)
	if word = nearest(word, allowed); word == "" {
		return ""
	}
	return fmt.Sprintf("; write %s = %q", key, word)
}

// rewritten returns how a string that the key does not allow is written rightly, as
// instead does: in lower case, with its unit, without what stands around it.
func (d *Decoder) rewritten(path, s string, tag reflect.StructTag) string {
	if hint := d.instead(path, s, reflect.String, tag); hint != "" {
		return hint
	}
	bare := strings.Trim(s, " \u00a0"+doubleQuotes+singleQuotes)
	mac, _ := net.ParseMAC(bare)
	for _, try := range []string{bare, mac.String(), strings.ToLower(bare), strings.NewReplacer("_", "-", " ", "-", ".", "-").Replace(strings.ToLower(bare))} {
		if hint := d.instead(path, try, reflect.String, tag); hint != "" {
			return hint
		}
	}
	return ""
}

// fits reports whether a text is one that the key allows by itself.
func fits(text string, tag reflect.StructTag) bool {
	enum, pattern := tag.Get("enum"), tag.Get("pattern")
	switch {
	case enum != "":
		return slices.Contains(strings.Split(enum, ","), text)
	case pattern != "":
		return regexp.MustCompile(pattern).MatchString(text)
	}
	return false
}

// inRange reports whether a number is one that the key allows.
func inRange(n int64, tag reflect.StructTag) bool {
	low, high, ok := strings.Cut(tag.Get("range"), ",")
	if !ok {
		return true
	}
	least, _ := strconv.ParseInt(low, 10, 64)
	most, _ := strconv.ParseInt(high, 10, 64)
	return n >= least && n <= most
}

// inArray returns how a single value is written in an array, "" if it is none.
func inArray(path string, v any) string {
	s, ok := v.(string)
	if !ok {
		return ""
	}
	return fmt.Sprintf("; write %s = [%s]", path[strings.LastIndexAny(path, ".]")+1:], Quote(s))
}
