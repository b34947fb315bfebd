package qemu

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/qnet-vm/qnet/qemu/machine"
)

// AddForward has QEMU listen, for a NIC of its user network by its place in
// machine.Config.NICs, at an IPv4 address and port of the host, and pass what comes to the
// guest's port. proto is "tcp" or "udp". QEMU binds the port with its own rights.
//
//	(qemu) hostfwd_add net0 tcp:127.0.0.1:2222-:22
func (v *VM) AddForward(ctx context.Context, nic int, proto string, at netip.AddrPort, guest uint16) error {
	words, err := v.human(ctx, fmt.Sprintf("hostfwd_add %s %s:%s-:%d", machine.NetdevID(nic), proto, at, guest))
	if err == nil && words != "" { // QEMU says nothing of success, and answers an error as a result
		err = errors.New(words)
	}
	if err != nil {
		return fmt.Errorf("have QEMU listen at %s/%s: %w", at, proto, err)
	}
	return nil
}

// RemoveForward undoes AddForward. Connections that were made by it go on.
//
//	(qemu) hostfwd_remove net0 tcp:127.0.0.1:2222
func (v *VM) RemoveForward(ctx context.Context, nic int, proto string, at netip.AddrPort) error {
	words, err := v.human(ctx, fmt.Sprintf("hostfwd_remove %s %s:%s", machine.NetdevID(nic), proto, at))
	if err == nil && words != "" && !strings.Contains(words, "removed") {
		err = errors.New(words)
	}
	if err != nil {
		return fmt.Errorf("have QEMU listen no more at %s/%s: %w", at, proto, err)
	}
	return nil
}

// human runs a command of QEMU's human monitor, and returns what it says.
func (v *VM) human(ctx context.Context, line string) (words string, err error) {
	err = v.monitor.Execute(ctx, "human-monitor-command", map[string]string{"command-line": line}, &words)
	return strings.TrimSpace(words), err
}
