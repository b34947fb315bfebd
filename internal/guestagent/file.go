package guestagent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// What FileArgs may ask for.
const (
	OpenFile  = "open"
	ReadFile  = "read"
	WriteFile = "write"
	CloseFile = "close"
)

// FileArgs are a question about a file of the guest, the arguments of FileOperation.
type FileArgs struct {
	Do     string `json:"do"`             // OpenFile, ReadFile, WriteFile or CloseFile
	Path   string `json:"path,omitempty"` // to open
	Mode   string `json:"mode,omitempty"` // to open with: "r" or "w", as of fopen(3)
	Handle int64  `json:"handle,omitempty"`
	Count  int    `json:"count,omitempty"` // bytes to read at most
	Data   []byte `json:"data,omitempty"`  // to write
}

// FileAnswer is the answer to FileArgs.
type FileAnswer struct {
	Handle int64  `json:"handle,omitempty"` // of the opened file
	Count  int    `json:"count,omitempty"`  // bytes written: at least one, and no more than were given
	Data   []byte `json:"data,omitempty"`   // read: no more than were asked for, and none only at the end
	End    bool   `json:"end,omitempty"`    // nothing follows what was read
}

// Errors of File about answers that no honest agent gives.
var (
	errTooMuch = errors.New("read the guest agent's answer: more bytes than were asked for")
	errNothing = errors.New("read the guest agent's answer: no bytes, and no end of the file")
	errCount   = errors.New("read the guest agent's answer: a count of bytes that were not sent")
)

// File has the agent open, read, write or close a file, as root. Errors are as those of Exec.
func (c *Conn) File(ctx context.Context, a FileArgs) (FileAnswer, error) {
	var r FileAnswer
	switch a.Do {
	case OpenFile:
		err := c.ask(ctx, "guest-file-open", map[string]any{"path": a.Path, "mode": a.Mode}, &r.Handle)
		return r, err
	case ReadFile:
		return c.read(ctx, a)
	case WriteFile:
		err := c.ask(ctx, "guest-file-write", map[string]any{"handle": a.Handle, "buf-b64": a.Data}, &r)
		if err == nil && (r.Count <= 0 || r.Count > len(a.Data)) {
			err = errCount
		}
		return FileAnswer{Count: r.Count}, err
	case CloseFile:
		return r, c.ask(ctx, "guest-file-close", map[string]any{"handle": a.Handle}, &struct{}{})
	}
	return r, fmt.Errorf("do %q with a file of the guest: allowed: open, read, write, close", a.Do)
}

func (c *Conn) read(ctx context.Context, a FileArgs) (FileAnswer, error) {
	var got struct {
		Data []byte `json:"buf-b64"`
		End  bool   `json:"eof"`
	}
	err := c.ask(ctx, "guest-file-read", map[string]any{"handle": a.Handle, "count": a.Count}, &got)
	switch {
	case err != nil:
		return FileAnswer{}, err
	case len(got.Data) > a.Count:
		return FileAnswer{}, errTooMuch
	case len(got.Data) == 0 && !got.End:
		return FileAnswer{}, errNothing
	}
	return FileAnswer{Data: got.Data, End: got.End}, nil
}

// DoFile answers FileArgs in JSON. It takes a nil Conn for a VM without the port.
func (c *Conn) DoFile(ctx context.Context, args json.RawMessage) (FileAnswer, error) {
	var a FileArgs
	if err := json.Unmarshal(args, &a); err != nil {
		return FileAnswer{}, fmt.Errorf("read arguments: %w", err)
	}
	if c == nil {
		return FileAnswer{}, noPort{}
	}
	return c.File(ctx, a)
}
