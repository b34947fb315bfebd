package firstboot

import (
	"encoding/base64"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"strings"
	"testing"
	"unicode"
)

// FuzzUserData puts any text beside qnet's own part: it is refused in printable words, or the
// document has both parts, the user's unchanged.
func FuzzUserData(f *testing.F) {
	for _, seed := range []string{
		"#cloud-config\npackages: [vim]\n", "#!/bin/sh\ntrue\n", "#include\nhttps://x\n", "## template: jinja\n", "variant: fcos\n", "{}", "\x1b[2J", "\xff", "#cloud-config\n--" + boundary + "--\n",
		"#!/bin/sh\n\x00\r\n", "Content-Type: multipart/mixed; boundary=x\n\n--x--\n", strings.Repeat("#", 100),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := Settings{UserData: UserData{File: "user-data", Text: text}}
		kind, err := s.UserData.kind()
		document, docErr := s.userData()
		if err != nil {
			if docErr == nil || strings.ContainsFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("got %v, %q", docErr, err)
			}
			return
		}
		if kind == "" || kind == "multipart" || kind == ignitionKind {
			return
		}
		m, err := mail.ReadMessage(strings.NewReader(document))
		if err != nil {
			t.Fatal(err)
		}
		_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
		if err != nil {
			t.Fatal(err)
		}
		parts := multipart.NewReader(m.Body, params["boundary"])
		for i, want := range []string{text, ""} {
			p, err := parts.NextPart()
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(p)
			if err != nil {
				t.Fatal(err)
			}
			if code := strings.NewReplacer("\r", "", "\n", "").Replace(string(got)); i == 0 && decoded(t, code) != want {
				t.Errorf("the user's part is %q, want %q", decoded(t, code), want)
			}
		}
		if _, err := parts.NextPart(); err != io.EOF {
			t.Errorf("a third part: %v", err)
		}
	})
}

func decoded(t *testing.T, code string) string {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(code)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
