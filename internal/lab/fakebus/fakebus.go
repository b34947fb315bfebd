// Package fakebus is a system bus for tests that need no rights and no dbus-daemon. It
// answers for the programs on it: names, methods and properties that the test sets.
//
// The bus listens in the caller's network namespace. One goroutine per connection
// serves it; the methods of Bus may be called concurrently with that.
package fakebus

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"
)

const (
	itself     = "org.freedesktop.DBus"
	properties = itself + ".Properties"
)

// Method answers a call: with the reply's values, or with an error, which the caller
// gets as a dbus.Error with the name and text of Refuse.
type Method func(args []any) ([]any, error)

// refusal is a D-Bus error.
type refusal struct{ name, text string }

func (r refusal) Error() string { return r.name + ": " + r.text }

// Refuse is the D-Bus error with that name, such as
// "org.freedesktop.DBus.Error.AccessDenied".
func Refuse(name, text string) error { return refusal{name, text} }

// Return is a method that always replies with the values.
func Return(values ...any) Method { return func([]any) ([]any, error) { return values, nil } }

// Bus is a system bus.
type Bus struct {
	t        testing.TB
	listener net.Listener
	serving  sync.WaitGroup

	mu         sync.Mutex
	owned      map[string]bool
	methods    map[string]Method                  // by object and method: "/ org.example.Method"
	properties map[string]map[string]dbus.Variant // by object and interface, then by key
	clients    map[net.Conn]bool
	calls      []string
	serial     uint32
}

// Start starts a bus, to which programs of this process connect as to the system bus.
// It ends with the test.
func Start(t testing.TB) *Bus {
	t.Helper()
	dir, err := os.MkdirTemp("", "qnet") //nolint:usetesting // its path is too long for a socket's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "dbus/system_bus_socket")
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	b := &Bus{
		t: t, owned: map[string]bool{}, methods: map[string]Method{}, properties: map[string]map[string]dbus.Variant{}, clients: map[net.Conn]bool{},
	}
	if b.listener, err = net.Listen("unix", path); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+path)
	b.serving.Go(b.accept)
	t.Cleanup(func() {
		b.listener.Close()
		b.HangUp()
		b.serving.Wait()
	})
	return b
}

func (b *Bus) accept() {
	for {
		c, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.mu.Lock()
		b.clients[c] = true
		b.mu.Unlock()
		b.serving.Go(func() { b.serve(c) })
	}
}

// HangUp closes all connections. New ones are accepted.
func (b *Bus) HangUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.clients {
		c.Close()
	}
}

// Handle has an object answer a method, such as "org.example.Manager.Get". The object
// need not belong to a name that is owned.
func (b *Bus) Handle(object, method string, m Method) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.methods[object+" "+method] = m
}

// SetProperty gives an object a property, such as "org.example.Device.Managed".
func (b *Bus) SetProperty(object, name string, value any) {
	i := strings.LastIndex(name, ".")
	of := object + " " + name[:i]
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.properties[of] == nil {
		b.properties[of] = map[string]dbus.Variant{}
	}
	b.properties[of][name[i+1:]] = dbus.MakeVariant(value)
}

// Property returns the value of a property, nil where there is none.
func (b *Bus) Property(object, name string) any {
	i := strings.LastIndex(name, ".")
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.properties[object+" "+name[:i]][name[i+1:]].Value()
}

// Own makes a program appear on the bus, or disappear.
func (b *Bus) Own(name string, owned bool) {
	before, now := "", ""
	b.mu.Lock()
	if b.owned[name] {
		before = ":1.99"
	}
	if owned {
		now = ":1.99"
	}
	b.owned[name] = owned
	b.mu.Unlock()
	b.Emit(itself, "/org/freedesktop/DBus", itself+".NameOwnerChanged", name, before, now)
}

// Calls lists the calls so far that were no questions to the bus itself, as
// "org.example.Manager.Set(1, x)".
func (b *Bus) Calls() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.calls...)
}

// Emit sends a signal to all connections; matches are not looked at.
func (b *Bus) Emit(sender, path, name string, values ...any) {
	i := strings.LastIndex(name, ".")
	headers := map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath(path)), dbus.FieldInterface: dbus.MakeVariant(name[:i]),
		dbus.FieldMember: dbus.MakeVariant(name[i+1:]), dbus.FieldSender: dbus.MakeVariant(sender),
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.clients {
		b.send(c, &dbus.Message{Type: dbus.TypeSignal, Headers: headers, Body: values})
	}
}

// serve talks to one client until it hangs up.
func (b *Bus) serve(c net.Conn) {
	defer func() {
		b.mu.Lock()
		delete(b.clients, c)
		b.mu.Unlock()
		c.Close()
	}()
	in := bufio.NewReader(c)
	if authenticate(in, c) != nil {
		return
	}
	for {
		m, err := dbus.DecodeMessage(in)
		if err != nil {
			return
		}
		if m.Type == dbus.TypeMethodCall {
			b.reply(c, m)
		}
	}
}

// authenticate lets every client in (D-Bus specification, "Authentication Protocol").
func authenticate(in *bufio.Reader, out io.Writer) error {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		var answer string
		switch words := strings.Fields(strings.TrimPrefix(line, "\x00")); {
		case len(words) == 1 && words[0] == "AUTH":
			answer = "REJECTED EXTERNAL\r\n"
		case words[0] == "AUTH", words[0] == "DATA":
			answer = "OK 0123456789abcdef0123456789abcdef\r\n"
		case words[0] == "BEGIN":
			return nil
		default:
			answer = "ERROR\r\n"
		}
		if _, err := io.WriteString(out, answer); err != nil {
			return err
		}
	}
}

func text(m *dbus.Message, f dbus.HeaderField) string { return fmt.Sprint(m.Headers[f].Value()) }

// reply answers one call.
func (b *Bus) reply(c net.Conn, m *dbus.Message) {
	object, name := text(m, dbus.FieldPath), text(m, dbus.FieldInterface)+"."+text(m, dbus.FieldMember)
	values, err := b.answer(object, name, m.Body)
	headers := map[dbus.HeaderField]dbus.Variant{
		dbus.FieldReplySerial: dbus.MakeVariant(m.Serial()), dbus.FieldSender: dbus.MakeVariant(itself),
	}
	r := &dbus.Message{Type: dbus.TypeMethodReply, Headers: headers, Body: values}
	if err != nil {
		var why refusal
		why, ok := err.(refusal) //nolint:errorlint // it is made here
		if !ok {
			why = refusal{itself + ".Error.Failed", err.Error()}
		}
		r.Type, r.Body = dbus.TypeError, []any{why.text}
		headers[dbus.FieldErrorName] = dbus.MakeVariant(why.name)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.send(c, r)
}

// answer asks the bus itself, the properties, or a method.
func (b *Bus) answer(object, name string, args []any) ([]any, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch name {
	case itself + ".Hello":
		return []any{":1.1"}, nil
	case itself + ".AddMatch":
		return nil, nil
	case itself + ".NameHasOwner":
		return []any{b.owned[args[0].(string)]}, nil
	}
	if m, ok := b.methods[object+" "+name]; ok {
		b.calls = append(b.calls, call(name, args))
		return m(args)
	}
	switch name {
	case properties + ".Get":
		if v, ok := b.properties[object+" "+args[0].(string)][args[1].(string)]; ok {
			return []any{v}, nil
		}
	case properties + ".GetAll":
		if v, ok := b.properties[object+" "+args[0].(string)]; ok {
			return []any{v}, nil
		}
	case properties + ".Set":
		if v, ok := b.properties[object+" "+args[0].(string)]; ok {
			b.calls = append(b.calls, call("Set", args))
			v[args[1].(string)] = args[2].(dbus.Variant)
			return nil, nil
		}
	}
	return nil, Refuse(itself+".Error.UnknownMethod", fmt.Sprintf("%s of %s", call(name, args), object))
}

func call(name string, args []any) string {
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = fmt.Sprint(a)
	}
	return name + "(" + strings.Join(words, ", ") + ")"
}

// send writes a message; a client that is gone does not get it. b.mu is held.
func (b *Bus) send(c net.Conn, m *dbus.Message) {
	if len(m.Body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(m.Body...))
	}
	var out bytes.Buffer
	if err := m.EncodeTo(&out, binary.LittleEndian); err != nil {
		b.t.Errorf("fake bus: %v", err)
		return
	}
	b.serial++
	binary.LittleEndian.PutUint32(out.Bytes()[8:], b.serial) // package dbus has no way to set it
	c.Write(out.Bytes())
}
