package host

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// The kinds of errors that callers test for with errors.Is. The cli turns each into an exit
// code or a hint.
var (
	// ErrNoTun says that /dev/net/tun is missing or cannot be used.
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
	// ErrNoSysctls says that no process here can write to /proc/sys, whatever its rights.
	ErrNoSysctls = errors.New("/proc/sys cannot be written")
	// ErrUnsupported says that the kernel cannot do it.
	ErrUnsupported = errors.New("this kernel cannot do it")
)

// Refuse returns an error that is ErrRefused. Its text, that of fmt.Errorf, says what
// forbids the change and ends with what to do about that.
func Refuse(format string, args ...any) error { return ofKind{fmt.Errorf(format, args...), ErrRefused} }

// OfKind returns an error with a text of its own, that of fmt.Errorf, that is of one of the
// kinds above.
func OfKind(kind error, format string, args ...any) error {
	return ofKind{fmt.Errorf(format, args...), kind}
}

type ofKind struct {
	error
	kind error
}

func (k ofKind) Unwrap() error { return k.error }

// Is reports whether the target is the error's kind.
func (k ofKind) Is(target error) bool { return target == k.kind }

// Explain wraps an error of rtnetlink or of tun: EPERM in ErrNoPermission and EOPNOTSUPP in
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

// ExplainNFTables is Explain for nftables. Its module loads others on demand: for an
// expression, a chain type or a family that it lacks, the kernel says ENOENT, EAFNOSUPPORT
// or EPROTONOSUPPORT (nft_expr_type_get and nft_chain_validate_hook in
// net/netfilter/nf_tables_api.c).
func ExplainNFTables(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EPROTONOSUPPORT) {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return Explain(err)
}
