package host

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Errors a caller may test for with errors.Is.
var (
	// ErrNoTun: /dev/net/tun is missing.
	ErrNoTun = errors.New("there is no /dev/net/tun")
	// ErrNoPermission: the process lacks CAP_NET_ADMIN.
	ErrNoPermission = errors.New("it needs CAP_NET_ADMIN")
	// ErrNotOurs: a link or table of the name exists and does not bear qnet's mark.
	ErrNotOurs = errors.New("it exists and does not bear qnet's mark")
	// ErrRefused: the host's state forbids what the profile asks. Refuse makes such errors.
	ErrRefused = errors.New("refused")
	// ErrLeft: something could not be undone and is left; the journal tells of it.
	ErrLeft = errors.New("something is left")
	// ErrUnsupported: the kernel cannot do it.
	ErrUnsupported = errors.New("this kernel cannot do it")
)

// Refuse returns an error that is ErrRefused, whose text is fmt.Errorf's alone: it says
// what forbids it, and ends with the way out.
func Refuse(format string, args ...any) error { return refusal{fmt.Errorf(format, args...)} }

type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// Is makes it ErrRefused.
func (r refusal) Is(target error) bool { return target == ErrRefused }

// Explain marks the errors of a process without rights and of a kernel without
// the feature.
func Explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: %w", ErrNoPermission, err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return err
}
