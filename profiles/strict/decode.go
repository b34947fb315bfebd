package strict

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

	"github.com/qnet-vm/qnet/internal/order"
)

// Decoder reads one file and gathers its problems.
type Decoder struct {
	Places
	language *Language
	twice    int // line of the first key that is defined twice, 0 if none
	errs     Errors
}

// Places are where a file has its keys. The zero value knows none.
type Places struct {
	File  string         // as given
	lines map[string]int // of each key, by its path
}

// Wrong returns what is wrong with a key: what was got and what is allowed.
func (p Places) Wrong(key, format string, args ...any) *Error {
	return &Error{File: p.File, Line: p.line(key), Key: key, Msg: fmt.Sprintf(format, args...)}
}

// New returns a decoder of a file, which messages name as given.
func New(l *Language, file string) *Decoder {
	return &Decoder{language: l, Places: Places{File: file, lines: map[string]int{}}}
}

// Has reports whether the file sets the key, or a table of that path.
func (d *Decoder) Has(key string) bool { return d.lines[key] > 0 }

// Fail reports what is wrong with a key: what was got and what is allowed.
func (d *Decoder) Fail(key, format string, args ...any) {
	d.errs = append(d.errs, d.Wrong(key, format, args...))
}

// line returns the line of the key, or of the table that lacks it.
func (p Places) line(key string) int {
	for ; key != ""; key = parent(key) {
		for _, k := range []string{key, key + "[0]"} {
			if n, ok := p.lines[k]; ok {
				return n
			}
		}
	}
	return 0
}

func parent(key string) string { return key[:max(strings.LastIndexAny(key, ".["), 0)] }

// Errors returns the problems in the order of the file.
func (d *Decoder) Errors() Errors {
	order.By(d.errs, func(a, b *Error) int { return a.Line - b.Line })
	return d.errs
}

// Decode fills the struct that into points to from the text, by its fields' tags. It reports
// whether the text is TOML: if it is not, into is as it was.
func (d *Decoder) Decode(data []byte, into any) bool {
	data, ok := d.text(data)
	if !ok {
		return false
	}
	d.locate(data)
	tree := map[string]any{}
	if err := toml.Unmarshal(data, &tree); err != nil {
		d.syntax(data, err)
		return false
	}
	d.table("", tree, reflect.ValueOf(into).Elem())
	return true
}

// locate records the line of every key, by the path used in messages.
func (d *Decoder) locate(data []byte) {
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

func (d *Decoder) locateValue(p *unstable.Parser, table string, kv *unstable.Node, arrays map[string]int) {
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
func (d *Decoder) locateKey(p *unstable.Parser, table string, key unstable.Iterator, arrays map[string]int) string {
	path := keyPath(table, key, arrays)
	d.locateAs(p, path, key)
	return path
}

func (d *Decoder) locateAs(p *unstable.Parser, path string, key unstable.Iterator) {
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
func (d *Decoder) table(path string, values map[string]any, into reflect.Value) {
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
			d.Fail(join(path, key), "%s", missing(known[key].Tag))
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
func (d *Decoder) unknown(path, key string, names []string) {
	guess := d.meant(path, key, names)
	if guess != "" {
		guess = "; " + guess
	}
	d.Fail(join(path, key), "unknown key; allowed: %s%s", strings.Join(names, ", "), guess)
}

func (d *Decoder) value(path string, v any, into reflect.Value, tag reflect.StructTag) {
	switch into.Kind() {
	case reflect.Struct:
		if t, ok := v.(map[string]any); ok {
			d.table(path, t, into)
		} else {
			d.wrongType(path, v, fmt.Sprintf("a table: [%s]", path))
		}
	case reflect.Pointer: // a table that may be missing
		into.Set(reflect.New(into.Type().Elem()))
		d.value(path, v, into.Elem(), tag)
	case reflect.Slice:
		d.slice(path, v, into, tag)
	case reflect.Map:
		d.named(path, v, into)
	default:
		d.single(path, v, into, tag)
	}
}

// single fills a string, a number or a truth value.
func (d *Decoder) single(path string, v any, into reflect.Value, tag reflect.StructTag) {
	kind, want := into.Kind(), "true or false"
	switch v := v.(type) {
	case string:
		if kind == reflect.String {
			if d.str(path, v, tag) {
				into.SetString(v)
			}
			return
		}
	case int64:
		if kind == reflect.Int64 {
			if d.number(path, v, tag) {
				into.SetInt(v)
			}
			return
		}
	case bool:
		switch {
		case kind == reflect.Bool:
			into.SetBool(v)
			return
		case !v && tag.Get("off") != "":
			return
		}
	}
	switch kind {
	case reflect.String:
		want = "a string" + form(tag)
	case reflect.Int64:
		want = "a whole number" + form(tag)
	}
	d.wrongType(path, v, want+d.instead(path, v, kind, tag))
}

func (d *Decoder) slice(path string, v any, into reflect.Value, tag reflect.StructTag) {
	list, ok := v.([]any)
	inner := reflect.StructTag("")
	switch of := into.Type().Elem().Kind(); {
	case !ok && of == reflect.Struct:
		d.wrongType(path, v, fmt.Sprintf("an array of tables: [[%s]]", path))
		return
	case !ok:
		d.wrongType(path, v, "an array"+form(tag)+inArray(path, v))
		return
	case of != reflect.Struct:
		inner = tag
	}
	into.Set(reflect.MakeSlice(into.Type(), len(list), len(list)))
	for i, element := range list {
		d.value(fmt.Sprintf("%s[%d]", path, i), element, into.Index(i), inner)
	}
}

// named fills a map of tables whose keys the user chooses.
func (d *Decoder) named(path string, v any, into reflect.Value) {
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
		if !d.language.Names().MatchString(name) {
			d.Fail(join(path, name), "got the name %s, allowed: %s", Quote(name), d.language.Names())
		}
		d.value(join(path, name), tables[name], element, "")
		into.SetMapIndex(reflect.ValueOf(name), element)
	}
}

func (d *Decoder) wrongType(path string, v any, want string) {
	d.Fail(path, "got %s, allowed: %s", describe(v), want)
}

// str reports whether a string is one that the key allows, and says what is wrong with it.
func (d *Decoder) str(path, s string, tag reflect.StructTag) bool {
	for _, r := range s {
		// Bidi controls make an editor show a text that differs from the file's.
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			d.Fail(path, "got %s, which has a control character (%U); none is allowed", Quote(s), r)
			return false
		}
	}
	if enum := tag.Get("enum"); enum != "" && !fits(s, tag) {
		d.Fail(path, "got %s, allowed: %s%s%s", Quote(s), strings.ReplaceAll(enum, ",", ", "), orFalse(tag), spelled(path, s, strings.Split(enum, ",")))
		return false
	}
	if pattern := tag.Get("pattern"); pattern != "" && !fits(s, tag) {
		d.Fail(path, "got %s, allowed: %s%s", Quote(s), cmp.Or(tag.Get("words"), pattern), d.rewritten(path, s, tag))
		return false
	}
	if s == "" && tag.Get("pattern") == "" {
		d.Fail(path, "got an empty string; leave the key out instead")
		return false
	}
	return true
}

func (d *Decoder) number(path string, n int64, tag reflect.StructTag) bool {
	if !inRange(n, tag) {
		d.Fail(path, "got %d, allowed: %s", n, strings.ReplaceAll(tag.Get("range"), ",", " to "))
		return false
	}
	return true
}
