package cli

import (
	"fmt"
	"net"
)

// notifyVariable names the socket of the service manager that started qnet (sd_notify(3)).
const notifyVariable = "NOTIFY_SOCKET"

// notifyReady returns a function that tells systemd that the VM runs, for a service of
// Type=notify; nil if no service manager asks for that.
func (a *app) notifyReady() func() {
	socket := a.Getenv(notifyVariable)
	if socket == "" {
		return nil
	}
	return func() {
		c, err := net.Dial("unixgram", socket)
		if err == nil {
			defer c.Close()
			_, err = fmt.Fprint(c, "READY=1")
		}
		if err != nil {
			a.Talk("warning: tell the service manager that the VM runs: %v", err)
		}
	}
}
