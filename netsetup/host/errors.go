package host

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// The kinds of errors that callers test for with errors.Is. The cli turns each into an exit
// code or a hint.
var (
	// ErrNoTun says that /dev/net/tun is missing.
	ErrNoTun = errors.New("there is no /dev/net/tun")
	// ErrNoPermission says that the process lacks CAP_NET_ADMIN.
	ErrNoPermission = errors.New("it needs CAP_NET_ADMIN")
	// ErrNotOurs says that a link or table of the name exists without qnet's mark.
	ErrNotOurs = errors.New("it exists and does not bear qnet's mark")
	// ErrRefused says that the host's state forbids what the profile asks for. Refuse makes
	// such errors.
	ErrRefused = errors.New("refused")
	// ErrLeft says that something could not be undone and is left. The journal holds it.
	ErrLeft = errors.New("something is left")
	// ErrUnsupported says that the kernel cannot do it.
	ErrUnsupported = errors.New("this kernel cannot do it")
)

// Refuse returns an error that is ErrRefused. Its text, that of fmt.Errorf, says what
// forbids the change and ends with what to do about that.
func Refuse(format string, args ...any) error { return refusal{fmt.Errorf(format, args...)} }

type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// Is reports whether the target is ErrRefused.
func (r refusal) Is(target error) bool { return target == ErrRefused }

// Explain wraps an error of the kernel: EPERM in ErrNoPermission and EOPNOTSUPP in
// ErrUnsupported. It returns any other error, and nil, unchanged.
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
