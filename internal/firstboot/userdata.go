package firstboot

import (
	"encoding/base64"
	"fmt"
	"path/filepath"
	"strings"
)

// UserData is the user's own file.
type UserData struct {
	File string // for messages
	Text string // "" = none
}

// MaxUserData is the largest file of user data, in bytes: it is kept in memory, the guest
// gets it in base64.
const MaxUserData = 4 << 20

// ignitionKind stands for an Ignition config among the types of user data.
const ignitionKind = "ignition"

// kinds are the first words of user data, and the MIME type for them (INCLUSION_TYPES_MAP
// in cloudinit/handlers/__init__.py). The first that fits counts.
var kinds = []struct{ first, kind string }{
	{"#include-once", "text/x-include-once-url"},
	{"#include", "text/x-include-url"},
	{"#!", "text/x-shellscript"},
	{"#cloud-config-archive", "text/cloud-config-archive"},
	{"#cloud-config", "text/cloud-config"},
	{"#cloud-boothook", "text/cloud-boothook"},
	{"#part-handler", "text/part-handler"},
	{"## template: jinja", "text/jinja2"},
	{"Content-Type:", "multipart"},
	{"MIME-Version:", "multipart"},
}

// Mistake is something in [guest] or in a file that it names that no guest would take.
type Mistake struct {
	Key string // such as "guest.user_data"
	Err error  // what is wrong, with the file
}

// Error names the key.
func (m *Mistake) Error() string { return m.Key + ": " + m.Err.Error() }

// Unwrap returns the cause.
func (m *Mistake) Unwrap() error { return m.Err }

func (u UserData) bad(format string, args ...any) error {
	return &Mistake{"guest.user_data", fmt.Errorf("%s: "+format, append([]any{u.File}, args...)...)}
}

func (u UserData) isIgnition() bool {
	return filepath.Ext(u.File) == ".ign" || strings.HasPrefix(strings.TrimSpace(u.Text), "{")
}

// kind returns what the user's data is, "" for none.
func (u UserData) kind() (string, error) {
	first, _, _ := strings.Cut(u.Text, "\n")
	switch {
	case len(u.Text) > MaxUserData:
		return "", u.bad("got %d bytes, allowed: %d", len(u.Text), MaxUserData)
	case u.File != "" && strings.TrimSpace(u.Text) == "":
		return "", u.bad("the file is empty")
	case u.Text == "":
		return "", nil
	case u.isIgnition():
		return ignitionKind, nil
	case strings.HasPrefix(first, "variant:"):
		return "", u.bad("it is a Butane config; make an Ignition config of it: butane < %s > config.ign", filepath.Base(u.File))
	}
	for _, k := range kinds {
		if strings.HasPrefix(u.Text, k.first) {
			return k.kind, nil
		}
	}
	return "", u.bad("got a first line %.40q, allowed: #cloud-config, #! of a script, #include, ## template: jinja, and others of cloud-init, or a JSON object for Ignition", first)
}

// boundary stands between the parts of user data. A part in base64 has no such line; a
// user's own MIME document could only by intent.
const boundary = "==qnet-first-boot=="

// userData returns the document of that name: qnet's part alone, or the user's before it.
// Of two cloud-configs, cloud-init merges the second into the first (merge_how).
func (s Settings) userData() (string, error) {
	kind, err := s.UserData.kind()
	own := "#cloud-config\n" + asJSON(s.cloudConfig(kind != ""))
	if kind == "" || err != nil {
		return own, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=%q\nMIME-Version: 1.0\n", boundary)
	if kind == "multipart" {
		fmt.Fprintf(&b, "\n--%s\n%s\n", boundary, strings.TrimSuffix(s.UserData.Text, "\n"))
	} else {
		part(&b, kind, s.UserData.Text)
	}
	part(&b, "text/cloud-config", own)
	fmt.Fprintf(&b, "\n--%s--\n", boundary)
	return b.String(), nil
}

// part writes a part of a MIME document in lines of base64 (RFC 2045, section 6.8).
func part(b *strings.Builder, kind, text string) {
	fmt.Fprintf(b, "\n--%s\nContent-Type: %s; charset=\"utf-8\"\nMIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\n", boundary, kind)
	code := base64.StdEncoding.EncodeToString([]byte(text))
	for len(code) > 76 {
		b.WriteString(code[:76] + "\n")
		code = code[76:]
	}
	b.WriteString(code + "\n")
}
