package virtiofs

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/qemu/program"
)

// remedy is for a host that lets no user make namespaces.
const remedy = "without root it takes user namespaces: see sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone and " +
	"kernel.apparmor_restrict_unprivileged_userns; or run the VM by sudo: the folder stays yours"

// refused tells the kernel's refusals from other failures.
func refused(err error) error {
	for _, e := range []unix.Errno{unix.EPERM, unix.EACCES, unix.ENOSPC, unix.EUSERS} {
		if errors.Is(err, e) {
			return &program.Lack{What: "this host does not let virtiofsd be confined to the folder", Remedy: remedy, Err: err}
		}
	}
	return err
}

// failure is what the stage tells of an error.
type failure struct {
	Text  string
	Errno unix.Errno // 0 if it is none of the kernel's
}

func failureOf(err error) failure {
	f := failure{Text: err.Error()}
	errors.As(err, &f.Errno)
	return f
}

// Error returns the text.
func (f *failure) Error() string { return f.Text }

// Unwrap returns the cause.
func (f *failure) Unwrap() error { return f.Errno }
