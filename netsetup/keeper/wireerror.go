package keeper

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/host"
)

// WireError carries an error between processes: its text, what errors.Is says of it,
// and the command of the step that failed.
type WireError struct {
	Text    string   `json:"text"`
	Kinds   []string `json:"kinds,omitempty"`   // all of them, in the order of the table kinds
	Kind    string   `json:"kind,omitempty"`    // the first: all that version 0 reads and writes
	Command string   `json:"command,omitempty"` // of the apply.Error, as an administrator types it

	Forward *wireForward `json:"forward,omitempty"` // of the ForwardError
}

// wireForward is what crosses of a ForwardError.
type wireForward struct {
	NIC     int     `json:"nic"`
	Forward Forward `json:"forward"`
	Cause   string  `json:"cause"`
}

// kinds are the sentinels that cross. The order is part of the protocol: version 0
// gets the first that applies.
var kinds = []struct {
	name     string
	sentinel error
}{
	{"no-tun", host.ErrNoTun},
	{"no-permission", host.ErrNoPermission},
	{"not-ours", host.ErrNotOurs},
	{"refused", host.ErrRefused},
	{"unsupported", host.ErrUnsupported},
	{"left", host.ErrLeft},
	{"no-sysctls", host.ErrNoSysctls},
	{"no-space", unix.ENOSPC},
	{"quota", unix.EDQUOT},
	{"read-only", unix.EROFS},
	{"no-memory", unix.ENOMEM},
	{"open-files", unix.EMFILE},
	{"open-files-of-all", unix.ENFILE},
	{"processes", unix.EAGAIN},
	{"port-taken", unix.EADDRINUSE},
	{"no-such-address", unix.EADDRNOTAVAIL},
}

// known0 is how many of the kinds version 0 knows.
const known0 = 5

// ToWire is what crosses of an error, nil of none.
func ToWire(err error) *WireError {
	if err == nil {
		return nil
	}
	w := &WireError{Text: err.Error(), Command: FailedCommand(err)}
	if f, ok := errors.AsType[*ForwardError](err); ok {
		w.Forward = &wireForward{f.NIC, f.Forward, f.Err.Error()}
	}
	for i, k := range kinds {
		if !errors.Is(err, k.sentinel) {
			continue
		}
		w.Kinds = append(w.Kinds, k.name)
		if i < known0 && w.Kind == "" {
			w.Kind = k.name
		}
	}
	return w
}

// Error is the text as the other process worded it.
func (w *WireError) Error() string { return w.Text }

// Unwrap gives the error its identity back.
func (w *WireError) Unwrap() []error {
	var list []error
	for _, k := range kinds {
		if k.name == w.Kind || slices.Contains(w.Kinds, k.name) {
			list = append(list, k.sentinel)
		}
	}
	return list
}

// FailedCommand is the command of the step that failed, "" if err is no step's. It
// knows errors of this process and those of a keeper.
func FailedCommand(err error) string {
	var far *WireError
	if errors.As(err, &far) && far.Command != "" {
		return far.Command
	}
	var near *apply.Error
	if errors.As(err, &near) {
		return near.Step.String()
	}
	return ""
}
