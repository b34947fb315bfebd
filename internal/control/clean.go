package control

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"reflect"

	"github.com/qnet-vm/qnet/internal/legible"
	"github.com/qnet-vm/qnet/profiles"
)

// maxAnswer bounds what a client reads of a supervisor, in bytes. The state of a VM with 15
// NICs has some 8 KiB.
const maxAnswer = 1 << 20

// answers decodes what a supervisor says. It may be another user's, whom root asks: all texts
// are escaped, so that they cannot drive a terminal, and bounded.
func answers(r io.Reader) *decoder {
	limited := &io.LimitedReader{R: r, N: maxAnswer}
	return &decoder{limited: limited, lines: json.NewDecoder(limited), most: maxAnswer}
}

type decoder struct {
	limited *io.LimitedReader
	lines   *json.Decoder
	most    int64 // bytes of one answer
}

// upTo has the decoder take answers of so many bytes; 0 changes nothing.
func (d *decoder) upTo(most int64) *decoder {
	d.most = cmp.Or(most, d.most)
	d.limited.N = d.most
	return d
}

// decode decodes the next answer.
func (d *decoder) decode(v any) error {
	d.limited.N = d.most
	if err := d.lines.Decode(v); err != nil {
		return err
	}
	escape(reflect.ValueOf(v))
	return nil
}

// escape escapes all texts within a value that it can change, but for the ends of lines.
func escape(v reflect.Value) {
	if a, ok := v.Interface().(netip.Addr); ok {
		v.Set(reflect.ValueOf(a.WithZone(legible.Text(a.Zone())))) // a zone may be any text
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(legible.Lines(v.String()))
	case reflect.Pointer:
		if !v.IsNil() {
			escape(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			escape(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				escape(v.Field(i))
			}
		}
	default: // it holds no text
	}
}

// check refuses a state that is none of the VM that was asked.
func (s State) check(name string) error {
	if s.Name != name || s.PID < 0 || s.QEMU < 0 {
		return fmt.Errorf("it answers as VM %q, pid %d and %d", s.Name, s.PID, s.QEMU)
	}
	return nil
}

// checkName refuses a name that no VM can have: it would lead to another socket.
func checkName(name string) error {
	if !profiles.ValidName(name) {
		return fmt.Errorf("VM %.80q: %w: allowed are names that match %s", name, ErrNotRunning, profiles.NamePattern)
	}
	return nil
}
