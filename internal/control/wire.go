package control

import (
	"errors"

	"github.com/qnet-vm/qnet/netsetup/host"
)

type wireError struct {
	Text  string   `json:"text"`
	Kinds []string `json:"kinds,omitempty"`
}

var kinds = []struct {
	name string
	is   error
}{
	{"no-tun", host.ErrNoTun},
	{"no-permission", host.ErrNoPermission},
	{"not-ours", host.ErrNotOurs},
	{"refused", host.ErrRefused},
	{"unsupported", host.ErrUnsupported},
}

func toWire(err error) *wireError {
	if err == nil {
		return nil
	}
	w := &wireError{Text: err.Error()}
	for _, k := range kinds {
		if errors.Is(err, k.is) {
			w.Kinds = append(w.Kinds, k.name)
		}
	}
	return w
}

func (w *wireError) Error() string { return w.Text }

func (w *wireError) Unwrap() []error {
	var errs []error
	for _, k := range kinds {
		for _, name := range w.Kinds {
			if k.name == name {
				errs = append(errs, k.is)
			}
		}
	}
	return errs
}
