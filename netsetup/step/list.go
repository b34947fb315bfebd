package step

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
)

// List is a list of steps that can be written to the journal and read back.
type List []Step

// record is a step in JSON: the name of its type, and its fields.
type record struct {
	Type string          `json:"type"`
	Step json.RawMessage `json:"step"`
}

// decoders decode a step's fields, by the name of its type. Each step's file registers
// its own.
var decoders = map[string]func(json.RawMessage) (Step, error){}

// Register makes List know a step, by the name of its type.
func Register[S Step]() bool {
	decoders[reflect.TypeFor[S]().Name()] = func(raw json.RawMessage) (Step, error) {
		var s S
		err := json.Unmarshal(raw, &s)
		return s, err
	}
	return true
}

// TypeName is the name of a step's type, "AddBridge". It panics for a step whose file
// does not register it.
func TypeName(s Step) string {
	name := reflect.TypeOf(s).Name()
	if _, ok := decoders[name]; !ok {
		panic(fmt.Sprintf("step: step %T is not registered", s))
	}
	return name
}

// MarshalJSON writes each step with the name of its type.
func (l List) MarshalJSON() ([]byte, error) {
	records := make([]record, 0, len(l))
	for _, s := range l {
		raw, err := json.Marshal(s)
		if err != nil {
			return nil, err
		}
		records = append(records, record{Type: TypeName(s), Step: raw})
	}
	return json.Marshal(records)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (l *List) UnmarshalJSON(data []byte) error {
	var records []record
	if err := json.Unmarshal(data, &records); err != nil {
		return err
	}
	*l = slices.Grow(List(nil), len(records))
	for _, r := range records {
		decode, ok := decoders[r.Type]
		if !ok {
			return fmt.Errorf("decode step: unknown type %q: a newer qnet wrote it, so use that", r.Type)
		}
		s, err := decode(r.Step)
		if err != nil {
			return fmt.Errorf("decode step %s: %w", r.Type, err)
		}
		*l = append(*l, s)
	}
	return nil
}
