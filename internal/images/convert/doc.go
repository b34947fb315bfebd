// Package convert turns what a distribution publishes into a plain qcow2 image: it expands
// compressed files itself, and converts other formats by qemu-img, which runs in a jail
// (package jail). The input is untrusted: its header is read here before QEMU's code sees
// it, the format is stated and never probed, and nothing may grow without limit.
//
// It writes only to files that the caller opened. All functions may be called concurrently
// for different files.
package convert

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/images/fetch"
)

// MaxSize is the largest disk that an image may be of, in bytes: 2 TiB.
const MaxSize = 2 << 40

// Budget returns how many bytes an image may grow to that was download bytes long: real
// images grow fivefold, one that grows a hundredfold is made to fill the disk.
func Budget(download int64) int64 { return min(100*download+1<<30, MaxSize) }

// BombError is an image that grows too much.
type BombError struct{ Limit int64 }

// Error says how much is allowed.
func (e *BombError) Error() string {
	return fmt.Sprintf("the image grows to more than %s, which is more than an image of its size has: it may be made to fill the disk", fetch.Bytes(e.Limit))
}

// UntrustedError is an image that qnet does not use, because of what its header asks for.
type UntrustedError struct{ Text string }

// Error says what is wrong with it.
func (e *UntrustedError) Error() string { return e.Text }

func refuse(format string, args ...any) error { return &UntrustedError{fmt.Sprintf(format, args...)} }

// full makes a fetch.FullError of an error about a disk without room.
func full(dir string, err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return &fetch.FullError{Dir: dir, Err: err}
	}
	return err
}
