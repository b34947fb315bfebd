package sshclient

import (
	"bytes"
	"io"
	"net/netip"
	"regexp"
	"strings"
	"sync"
)

// Errors is a writer for ssh's stderr. It passes everything on but the messages of an ssh
// that did not get in, which it holds back until the caller knows whether ssh runs again.
type Errors struct {
	To      io.Writer
	Address netip.Addr

	mu   sync.Mutex
	held []byte
	all  []byte // the end of what ssh said
}

// refusal matches what ssh says before it ends with 255 because the server at an address
// closed the connection, did not take one, or refused the login (sshconnect2.c, packet.c and
// sshconnect.c of OpenSSH). Messages of a session that ended read differently.
func refusal(a netip.Addr) *regexp.Regexp {
	host := regexp.QuoteMeta(a.String())
	return regexp.MustCompile(`(?m)^(\S*@` + host + `: (Permission denied \([^)]*\))\.|ssh: connect to host ` + host +
		` port \d+: (Connection refused|No route to host|Connection timed out|Connection reset by peer)|` +
		`(kex_exchange_identification: .*)|(Connection (?:closed|reset) by ` + host + ` port \d+)|(System is booting up\..*))\r?$`)
}

// Write implements io.Writer.
func (e *Errors) Write(b []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, b...)
	e.all = e.all[max(0, len(e.all)-16<<10):]
	if len(e.held) > 0 || refusal(e.Address).Match(b) {
		e.held = append(e.held, b...)
		return len(b), nil
	}
	return e.To.Write(b)
}

// Flush passes on what was held back.
func (e *Errors) Flush() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.To.Write(e.held) //nolint:errcheck // a terminal that is gone needs no word
	e.held = nil
}

// Refused returns the last reason for which ssh did not get in, "" if it gave none.
func (e *Errors) Refused() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	why := ""
	for _, m := range refusal(e.Address).FindAllSubmatch(e.held, -1) {
		for _, group := range m[2:] {
			if len(group) > 0 {
				why = string(bytes.TrimSpace(group))
			}
		}
	}
	return why
}

// NoServer reports whether a refusal says that no server took the connection.
func NoServer(refused string) bool {
	switch refused {
	case "Connection refused", "No route to host", "Connection timed out":
		return true
	}
	return false
}

// Asks reports whether the server would have taken a password, so that ssh may have asked
// the user for one.
func Asks(refused string) bool {
	return strings.Contains(refused, "password") || strings.Contains(refused, "keyboard-interactive")
}

// ChangedKey reports whether ssh refused the guest's host key because it knows another.
func (e *Errors) ChangedKey() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return bytes.Contains(e.all, []byte("REMOTE HOST IDENTIFICATION HAS CHANGED"))
}
