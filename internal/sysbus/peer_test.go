package sysbus

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/qnet-vm/qnet/internal/lab/fakebus"
)

const (
	name   = "org.example.Program"
	object = "/org/example"
)

func TestPeer(t *testing.T) {
	bus := fakebus.Start(t)
	if _, err := Dial(t.Context(), name); !errors.Is(err, ErrNotRunning) || !Absent(err) {
		t.Errorf("without the program: got %v, want ErrNotRunning", err)
	}
	bus.Own(name, true)
	bus.Handle(object, name+".Add", func(args []any) ([]any, error) { return []any{args[0].(int32) + args[1].(int32)}, nil })
	bus.Handle(object, name+".Lock", func([]any) ([]any, error) { return nil, fakebus.Refuse("org.example.Locked", "it is locked") })
	bus.SetProperty(object, name+".Size", uint32(3))
	p, err := Dial(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var sum int32
	if err := p.Call(t.Context(), object, name+".Add", int32(2), int32(3)).Store(&sum); err != nil || sum != 5 {
		t.Errorf("2+3 is %d, %v", sum, err)
	}
	var refused dbus.Error
	if err := p.Call(t.Context(), object, name+".Lock").Err; !errors.As(err, &refused) || refused.Name != "org.example.Locked" {
		t.Errorf("got %v, want the program's refusal", err)
	}
	if n, err := Property[uint32](t.Context(), p, object, name+".Size"); err != nil || n != 3 {
		t.Errorf("Size is %d, %v", n, err)
	}
	if _, err := Property[bool](t.Context(), p, object, name+".Size"); err == nil {
		t.Error("a number was read as a bool")
	}
	if _, err := Property[uint32](t.Context(), p, object, name+".None"); err == nil {
		t.Error("a property was read that is not there")
	}
	if err := p.SetProperty(t.Context(), object, name+".Size", uint32(4)); err != nil || bus.Property(object, name+".Size") != uint32(4) {
		t.Errorf("Size is %v, %v", bus.Property(object, name+".Size"), err)
	}
	all, err := p.Properties(t.Context(), object, name)
	if err != nil || len(all) != 1 || all["Size"].Value() != uint32(4) {
		t.Errorf("all properties: %v, %v", all, err)
	}
	if got := Running(t.Context(), "org.example.Other", name); !reflect.DeepEqual(got, []string{name}) {
		t.Errorf("running: %v", got)
	}
}

func TestNoBus(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "none"))
	if _, err := Dial(t.Context(), name); !errors.Is(err, ErrNone) || !Absent(err) {
		t.Errorf("got %v, want ErrNone", err)
	}
	if got := Running(t.Context(), name); got != nil {
		t.Errorf("running without a bus: %v", got)
	}
	if err := Watch(t.Context(), name, nil); !errors.Is(err, ErrNone) {
		t.Errorf("watch: got %v, want ErrNone", err)
	}
}

// watching runs Watch; next returns what it reports next, and ended its result.
func watching(t *testing.T, paths ...dbus.ObjectPath) (next func() bool, stop func(), ended <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	reports, end := make(chan bool, 16), make(chan error, 1)
	go func() { end <- Watch(ctx, name, func(runs bool) { reports <- runs }, paths...) }()
	return func() bool {
		t.Helper()
		select {
		case r := <-reports:
			return r
		case err := <-end:
			t.Fatalf("the watch ended: %v", err)
		case <-time.After(10 * time.Second):
			t.Fatal("no report")
		}
		return false
	}, cancel, end
}

func TestWatch(t *testing.T) {
	bus := fakebus.Start(t)
	next, stop, ended := watching(t, object)
	if next() {
		t.Error("it runs before its start")
	}
	bus.Own(name, true)
	if !next() {
		t.Error("it does not run after its start")
	}
	bus.Emit("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.NameAcquired", ":1.1")
	bus.Emit(":1.99", object, name+".Reloaded")
	if !next() {
		t.Error("its signal says that it does not run")
	}
	bus.Own(name, false)
	if next() {
		t.Error("it runs after its end")
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("the context ended: got %v, want nil", err)
	}
}

func TestWatchLosesBus(t *testing.T) {
	bus := fakebus.Start(t)
	next, stop, ended := watching(t)
	defer stop()
	next()
	bus.HangUp()
	if err := <-ended; err == nil || Absent(err) {
		t.Errorf("the bus hung up: got %v", err)
	}
}

// The answer about a socket is kept as long as its file is the same, unless the
// daemon may be just about to listen.
func TestOurs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dbus/system_bus_socket")
	t.Chdir(filepath.Dir(filepath.Dir(path))) // a socket's path is short
	path = "./dbus/system_bus_socket"
	if err := os.Mkdir("dbus", 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+path)
	listen := func() net.Listener {
		t.Helper()
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	if ours() {
		t.Error("there is no file")
	}
	l := listen()
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	for range 2 {
		if !ours() {
			t.Error("the socket listens")
		}
	}
	l.Close() // the file stays, and the answer with it: the connection fails
	if !ours() {
		t.Error("the list of sockets was read again")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil { // as between bind and listen
		t.Fatal(err)
	}
	if ours() {
		t.Error("nothing listens")
	}
	if seen.at.ino != 0 && !seen.ours {
		t.Error("the answer about a fresh file was kept")
	}
	time.Sleep(bound + 10*time.Millisecond)
	if ours() {
		t.Error("nothing listens")
	}
	if at, _ := locate(path); seen.at != at || seen.ours {
		t.Error("the answer about an old file was not kept")
	}
	os.Remove(path)
	defer listen().Close()
	if !ours() {
		t.Error("a new socket listens")
	}
}
