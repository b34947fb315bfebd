package sysbus

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// Lists as the kernel writes them.
const (
	head      = "Num       RefCount Protocol Flags    Type St Inode Path\n"
	nameless  = "0000000000000000: 00000003 00000000 00000000 0001 03 21459\n"
	connected = "0000000000000000: 00000003 00000000 00000000 0001 03 21460 /run/dbus/system_bus_socket\n"
	listening = "0000000000000000: 00000002 00000000 00010000 0001 01 21461 /run/dbus/system_bus_socket\n"
	sessions  = "0000000000000000: 00000002 00000000 00010000 0001 01 21462 /run/user/1000/bus\n"
	nearly    = "0000000000000000: 00000002 00000000 00010000 0001 01 21463 /run/dbus/system_bus_socket.old\n"
)

func TestListens(t *testing.T) {
	for list, want := range map[string]bool{
		"":                                  false,
		head:                                false,
		head + nameless + sessions + nearly: false,
		head + connected:                    false,
		head + connected + listening:        true,
		head + listening + connected:        true,
		head + strings.Replace(listening, "/run", "/var/run", 1): true,
		"/dbus/system_bus_socket\n" + head:                       false,
	} {
		if got := listens(strings.NewReader(list)); got != want {
			t.Errorf("%v of\n%s", got, list)
		}
	}
	// It is not read to its end once the bus is found.
	if !listens(io.MultiReader(strings.NewReader(head+listening+nameless), iotest.ErrReader(errors.New("read on")))) {
		t.Error("a list that cannot be read to its end")
	}
}
