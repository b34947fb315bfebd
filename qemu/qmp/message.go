package qmp

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"

	goqmp "github.com/digitalocean/go-qemu/qmp"

	"github.com/qnet-vm/qnet/internal/legible"
)

const (
	// maxLine is far above the longest line QEMU is known to send, the
	// 207 KB answer to query-qmp-schema.
	maxLine = 8 << 20
	// maxEvent bounds what one queued event can cost in memory. The largest
	// events of QEMU are a few hundred bytes long.
	maxEvent = 64 << 10
	// maxDesc bounds the text of an error that QEMU reports.
	maxDesc = 1 << 10
)

var errLineTooLong = fmt.Errorf("line longer than %d bytes", maxLine)

// Error is what QEMU answers to a command it refuses.
type Error struct {
	Class string // for example "DeviceNotFound" or "GenericError"
	Desc  string // QEMU's own words
}

// Error returns the class and the text, with control characters escaped.
func (e *Error) Error() string {
	return legible.Text(e.Class) + ": " + legible.Text(e.Desc)
}

// object is one JSON object with its keys exactly as sent. Decoding into a
// struct would let "EVENT" override "event".
type object map[string]json.RawMessage

func decodeObject(raw []byte) (object, error) {
	var o object
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, err
	}
	if o == nil {
		return nil, errors.New("not an object")
	}
	return o, nil
}

// text returns the string stored under key, or "" when there is none.
func (o object) text(key string) string {
	var s string
	if json.Unmarshal(o[key], &s) != nil {
		return ""
	}
	return s
}

func (o object) number(key string) int64 {
	var n int64
	if json.Unmarshal(o[key], &n) != nil {
		return 0
	}
	return n
}

func (o object) object(key string) object {
	inner, err := decodeObject(o[key])
	if err != nil {
		return nil
	}
	return inner
}

// event returns the object as an event of go-qemu.
func (o object) event() goqmp.Event {
	e := goqmp.Event{Event: o.text("event")}
	if json.Unmarshal(o["data"], &e.Data) != nil {
		e.Data = nil
	}
	stamp := o.object("timestamp")
	e.Timestamp.Seconds = stamp.number("seconds")
	e.Timestamp.Microseconds = stamp.number("microseconds")
	return e
}

// err returns the error that a reply carries, or nil.
func (o object) err() error {
	if _, refused := o["error"]; !refused {
		return nil
	}
	e := o.object("error")
	return &Error{Class: clip(e.text("class")), Desc: clip(e.text("desc"))}
}

func clip(s string) string {
	if len(s) <= maxDesc {
		return s
	}
	return s[:maxDesc] + "..."
}

// version returns the version inside a greeting.
func (o object) version() goqmp.Version {
	in := o.object("QMP").object("version")
	var v goqmp.Version
	v.Package = clip(in.text("package"))
	v.QEMU.Major = int(in.object("qemu").number("major"))
	v.QEMU.Minor = int(in.object("qemu").number("minor"))
	v.QEMU.Micro = int(in.object("qemu").number("micro"))
	return v
}

// readLine returns the next line in a slice of its own, without holding more
// than the longest allowed line.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > maxLine {
			return nil, errLineTooLong
		}
		line = append(line, part...)
		if err == nil {
			return line, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
	}
}
