// Package viewers has the sockets by which programs of the user look into a running VM: its
// screen by VNC, and its processor by gdb. They are in the VM's directory below the run
// directory and open to the user only. QEMU listens at none of them by itself: it gets a
// viewer's connection, or the socket for gdb, open.
package viewers

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/perm"
)

// addTime is how long QEMU may take to greet a viewer.
const addTime = 10 * time.Second

// Listen makes a socket at a path in the VM's directory, for the user alone: nil is the
// caller. The caller closes it, which removes the path.
func Listen(ctx context.Context, path string, user *asuser.User) (*net.UnixListener, error) {
	os.Remove(path) // a dead supervisor's
	l, err := perm.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := user.Chown(path); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Serve gives each viewer that connects to add, which hands it to QEMU, and closes its own
// end. It returns when the socket is closed. refused gets an error of add; the viewer sees
// the end of its connection.
func Serve(ctx context.Context, l *net.UnixListener, add func(context.Context, *os.File) error, refused func(error)) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return
		}
		if err := give(ctx, c, add); err != nil {
			refused(err)
		}
	}
}

func give(ctx context.Context, c *net.UnixConn, add func(context.Context, *os.File) error) error {
	defer c.Close()
	f, err := c.File()
	if err != nil {
		return fmt.Errorf("take viewer: %w", err)
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(ctx, addTime)
	defer cancel()
	return add(ctx, f)
}
