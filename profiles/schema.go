package profiles

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
)

// Schema returns the JSON Schema (draft 2020-12) of a profile, made from the types
// that Load decodes into. Editors complete and check TOML with it.
func Schema() ([]byte, error) {
	s := objectSchema(reflect.TypeFor[rawProfile]())
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "qnet VM profile"
	s["properties"].(map[string]any)["name"].(map[string]any)["not"] = map[string]any{"enum": ReservedNames()}
	b, err := json.MarshalIndent(s, "", "  ")
	return append(b, '\n'), err
}

func objectSchema(t reflect.Type) map[string]any {
	properties := map[string]any{}
	var required []string
	for i := range t.NumField() {
		f := t.Field(i)
		key := f.Tag.Get("toml")
		properties[key] = fieldSchema(f.Type, f.Tag)
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

func fieldSchema(t reflect.Type, tag reflect.StructTag) map[string]any {
	var s map[string]any
	switch t.Kind() {
	case reflect.String:
		s = map[string]any{"type": "string", "minLength": 1}
	case reflect.Int64:
		s = map[string]any{"type": "integer"}
	case reflect.Bool:
		s = map[string]any{"type": "boolean"}
	case reflect.Slice:
		s = map[string]any{"type": "array", "maxItems": map[string]int{"nic": maxNICs, "disk": maxDisks}[tag.Get("toml")], "items": objectSchema(t.Elem())}
	case reflect.Map:
		s = map[string]any{
			"type": "object", "additionalProperties": objectSchema(t.Elem()),
			"propertyNames": map[string]any{"pattern": namePattern.String()},
		}
	default:
		s = objectSchema(t)
	}
	limits(s, t, tag)
	return s
}

func limits(s map[string]any, t reflect.Type, tag reflect.StructTag) {
	if v := tag.Get("enum"); v != "" {
		s["enum"] = strings.Split(v, ",")
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
