package strict

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
)

// Schema returns the JSON Schema (draft 2020-12) of a struct that Decode fills. Editors
// complete and check TOML with it.
func (l *Language) Schema(of reflect.Type, title string) map[string]any {
	s := l.object(of)
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = title
	return s
}

func (l *Language) object(t reflect.Type) map[string]any {
	properties := map[string]any{}
	var required []string
	for i := range t.NumField() {
		f := t.Field(i)
		key := f.Tag.Get("toml")
		properties[key] = l.field(f.Type, f.Tag)
		if f.Tag.Get("required") != "" {
			required = append(required, key)
		}
	}
	s := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if required != nil {
		s["required"] = required
	}
	return s
}

func (l *Language) field(t reflect.Type, tag reflect.StructTag) map[string]any {
	var s map[string]any
	switch t.Kind() {
	case reflect.String:
		s = map[string]any{"type": "string", "minLength": 1}
	case reflect.Int64:
		s = map[string]any{"type": "integer"}
	case reflect.Bool:
		s = map[string]any{"type": "boolean"}
	case reflect.Slice:
		return l.array(t, tag)
	case reflect.Pointer:
		return l.field(t.Elem(), tag)
	case reflect.Map:
		s = map[string]any{
			"type": "object", "additionalProperties": l.object(t.Elem()),
			"propertyNames": map[string]any{"pattern": l.Names().String()},
		}
	default:
		s = l.object(t)
	}
	limits(s, t, tag)
	return s
}

// array describes a slice: the tag's limits are those of its elements.
func (l *Language) array(t reflect.Type, tag reflect.StructTag) map[string]any {
	s := map[string]any{"type": "array"}
	if of := t.Elem(); of.Kind() == reflect.Struct {
		s["items"] = l.object(of)
	} else {
		element := l.field(of, tag)
		delete(element, "description")
		s["items"] = element
	}
	if most := tag.Get("most"); most != "" {
		s["maxItems"] = json.Number(most)
	}
	if v := tag.Get("doc"); v != "" {
		s["description"] = v
	}
	return s
}

func limits(s map[string]any, t reflect.Type, tag reflect.StructTag) {
	if v := tag.Get("enum"); v != "" {
		s["enum"] = strings.Split(v, ",")
		if tag.Get("off") != "" {
			delete(s, "type")
			delete(s, "minLength")
			s["enum"] = []any{false}
			for _, word := range strings.Split(v, ",") {
				s["enum"] = append(s["enum"].([]any), word)
			}
		}
	}
	if v := tag.Get("pattern"); v != "" {
		s["pattern"] = v
	}
	if low, high, ok := strings.Cut(tag.Get("range"), ","); ok {
		s["minimum"], s["maximum"] = json.Number(low), json.Number(high)
	}
	if v := tag.Get("default"); v != "" {
		s["default"] = v
		if n, err := strconv.Atoi(v); err == nil && t.Kind() == reflect.Int64 {
			s["default"] = n
		}
	}
	if v := tag.Get("doc"); v != "" {
		s["description"] = v
	}
}
