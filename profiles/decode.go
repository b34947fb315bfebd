package profiles

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// decoder gathers problems; lines has the line of each key.
type decoder struct {
	file  string
	home  string // the user's home directory, "" if it is not known
	lines map[string]int
	twice int // line of the first key that is defined twice, 0 if none
	errs  Errors
}

func (d *decoder) fail(key, format string, args ...any) {
	d.errs = append(d.errs, &Error{File: d.file, Line: d.line(key), Key: key, Msg: fmt.Sprintf(format, args...)})
}

// line returns the line of the key, or of the table that lacks it.
func (d *decoder) line(key string) int {
	for ; key != ""; key = parent(key) {
		for _, k := range []string{key, key + "[0]"} {
			if n, ok := d.lines[k]; ok {
				return n
			}
		}
	}
	return 0
}

func parent(key string) string { return key[:max(strings.LastIndexAny(key, ".["), 0)] }

func (d *decoder) sorted() Errors {
	slices.SortStableFunc(d.errs, func(a, b *Error) int { return a.Line - b.Line })
	return d.errs
}

// decode returns nil if the text is not TOML.
func (d *decoder) decode(data []byte) *rawProfile {
	data, ok := d.text(data)
	if !ok {
		return nil
	}
	d.locate(data)
	tree := map[string]any{}
	if err := toml.Unmarshal(data, &tree); err != nil {
		d.syntax(data, err)
		return nil
	}
	var raw rawProfile
	d.table("", tree, reflect.ValueOf(&raw).Elem())
	return &raw
}

// locate records the line of every key, by the path used in messages.
func (d *decoder) locate(data []byte) {
	p := &unstable.Parser{}
	p.Reset(data)
	arrays := map[string]int{} // elements so far of each array of tables
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table:
			table = d.locateKey(p, "", e.Key(), arrays)
		case unstable.ArrayTable:
			key := keyPath("", e.Key(), arrays)
			table = fmt.Sprintf("%s[%d]", key, arrays[key])
			arrays[key]++
			d.locateAs(p, table, e.Key())
		case unstable.KeyValue:
			d.locateValue(p, table, e, arrays)
		}
	}
}

func (d *decoder) locateValue(p *unstable.Parser, table string, kv *unstable.Node, arrays map[string]int) {
	key := d.locateKey(p, table, kv.Key(), arrays)
	switch v := kv.Value(); v.Kind {
	case unstable.InlineTable:
		for children := v.Children(); children.Next(); {
			d.locateValue(p, key, children.Node(), arrays)
		}
	case unstable.Array:
		i := 0
		for children := v.Children(); children.Next(); i++ {
			element := children.Node()
			if element.Kind != unstable.InlineTable {
				continue
			}
			for inner := element.Children(); inner.Next(); {
				d.locateValue(p, fmt.Sprintf("%s[%d]", key, i), inner.Node(), arrays)
			}
		}
	}
}

// locateKey records a key and returns its path.
func (d *decoder) locateKey(p *unstable.Parser, table string, key unstable.Iterator, arrays map[string]int) string {
	path := keyPath(table, key, arrays)
	d.locateAs(p, path, key)
	return path
}

func (d *decoder) locateAs(p *unstable.Parser, path string, key unstable.Iterator) {
	for key.Next() {
		line := p.Shape(key.Node().Raw).Start.Line
		if first, ok := d.lines[path]; !ok {
			d.lines[path] = line
		} else if d.twice == 0 && line > first {
			d.twice = line
		}
	}
}

// keyPath joins a dotted key to its table's path; a part that is an array of
// tables stands for its last element, as in TOML.
func keyPath(table string, key unstable.Iterator, arrays map[string]int) string {
	path := table
	first := true
	for key.Next() {
		if n := arrays[path]; n > 0 && !first {
			path = fmt.Sprintf("%s[%d]", path, n-1)
		}
		path = join(path, string(key.Node().Data))
		first = false
	}
	return path
}

func join(table, key string) string {
	if table == "" {
		return key
	}
	return table + "." + key
}

// table fills a struct from a TOML table.
func (d *decoder) table(path string, values map[string]any, into reflect.Value) {
	known := map[string]reflect.StructField{}
	var names []string
	for i := range into.NumField() {
		field := into.Type().Field(i)
		known[field.Tag.Get("toml")] = field
		names = append(names, field.Tag.Get("toml"))
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		field, ok := known[key]
		if !ok {
			d.unknown(path, key, names)
			continue
		}
		d.value(join(path, key), values[key], into.FieldByIndex(field.Index), field.Tag)
	}
	for _, key := range names {
		if _, ok := values[key]; !ok && known[key].Tag.Get("required") != "" {
			d.fail(join(path, key), "%s", missing(known[key].Tag))
		}
	}
}

// missing says what a key that must be there is for, and what it may be.
func missing(tag reflect.StructTag) string {
	doc := strings.TrimSuffix(tag.Get("doc"), ".")
	text := "missing: " + strings.ToLower(doc[:1]) + doc[1:]
	if allowed := tag.Get("enum"); allowed != "" {
		text += "; allowed: " + strings.ReplaceAll(allowed, ",", ", ")
	}
	return text
}

// unknown reports a key that the table does not have.
func (d *decoder) unknown(path, key string, names []string) {
	guess := meant(path, key, names)
	if guess != "" {
		guess = "; " + guess
	}
	d.fail(join(path, key), "unknown key; allowed: %s%s", strings.Join(names, ", "), guess)
}

func (d *decoder) value(path string, v any, into reflect.Value, tag reflect.StructTag) {
	switch into.Kind() {
	case reflect.String:
		if s, ok := v.(string); ok && d.str(path, s, tag) {
			into.SetString(s)
		} else if !ok {
			d.wrongType(path, v, "a string"+form(tag)+instead(path, v, reflect.String, tag))
		}
	case reflect.Int64:
		if n, ok := v.(int64); ok && d.number(path, n, tag) {
			into.SetInt(n)
		} else if !ok {
			d.wrongType(path, v, "a whole number"+form(tag)+instead(path, v, reflect.Int64, tag))
		}
	case reflect.Bool:
		if b, ok := v.(bool); ok {
			into.SetBool(b)
		} else {
			d.wrongType(path, v, "true or false"+instead(path, v, reflect.Bool, tag))
		}
	case reflect.Struct:
		if t, ok := v.(map[string]any); ok {
			d.table(path, t, into)
		} else {
			d.wrongType(path, v, fmt.Sprintf("a table: [%s]", path))
		}
	case reflect.Slice:
		d.slice(path, v, into)
	case reflect.Map:
		d.named(path, v, into)
	}
}

func (d *decoder) slice(path string, v any, into reflect.Value) {
	list, ok := v.([]any)
	if !ok {
		d.wrongType(path, v, fmt.Sprintf("an array of tables: [[%s]]", path))
		return
	}
	into.Set(reflect.MakeSlice(into.Type(), len(list), len(list)))
	for i, element := range list {
		d.value(fmt.Sprintf("%s[%d]", path, i), element, into.Index(i), "")
	}
}

// named fills a map of tables whose keys the user chooses.
func (d *decoder) named(path string, v any, into reflect.Value) {
	tables, ok := v.(map[string]any)
	if !ok {
		d.wrongType(path, v, fmt.Sprintf("tables: [%s.NAME]", path))
		return
	}
	into.Set(reflect.MakeMap(into.Type()))
	for _, name := range slices.Sorted(maps.Keys(tables)) {
		element := reflect.New(into.Type().Elem()).Elem()
		if _, ok := tables[name].(map[string]any); !ok && slices.Contains(keysOf(element.Type()), name) {
			d.wrongType(join(path, name), tables[name], fmt.Sprintf("tables: [%s.NAME]; %s belongs in one of them, such as [%s.nat]", path, name, path))
			continue
		}
		if !namePattern.MatchString(name) {
			d.fail(join(path, name), "got the name %s, allowed: %s", quote(name), namePattern)
		}
		d.value(join(path, name), tables[name], element, "")
		into.SetMapIndex(reflect.ValueOf(name), element)
	}
}

func (d *decoder) wrongType(path string, v any, want string) {
	d.fail(path, "got %s, allowed: %s", describe(v), want)
}

// str reports whether a string is one that the key allows, and says what is wrong with it.
func (d *decoder) str(path, s string, tag reflect.StructTag) bool {
	for _, r := range s {
		// Bidi controls make an editor show a text that differs from the file's.
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			d.fail(path, "got %s, which has a control character (%U); none is allowed", quote(s), r)
			return false
		}
	}
	if enum := tag.Get("enum"); enum != "" && !fits(s, tag) {
		d.fail(path, "got %s, allowed: %s%s", quote(s), strings.ReplaceAll(enum, ",", ", "), spelled(path, s, strings.Split(enum, ",")))
		return false
	}
	if pattern := tag.Get("pattern"); pattern != "" && !fits(s, tag) {
		d.fail(path, "got %s, allowed: %s%s", quote(s), cmp.Or(tag.Get("words"), pattern), rewritten(path, s, tag))
		return false
	}
	if s == "" && tag.Get("pattern") == "" {
		d.fail(path, "got an empty string; leave the key out instead")
		return false
	}
	return true
}

func (d *decoder) number(path string, n int64, tag reflect.StructTag) bool {
	if !inRange(n, tag) {
		d.fail(path, "got %d, allowed: %s", n, strings.ReplaceAll(tag.Get("range"), ",", " to "))
		return false
	}
	return true
}
