package guestagent

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"unicode"
)

// FuzzAnswers lets the guest's agent say anything behind, or in place of, an answer to each
// question: all of them end, no answer breaks its bounds, and errors are short and printable.
func FuzzAnswers(f *testing.F) {
	sync := "\xff" + `{"return":1}` + "\n"
	for _, seed := range []string{
		sync + `{"return":{"pid":7}}` + "\n", sync + `{"return":{"exited":true,"exitcode":-1,"signal":99,"out-data":"aGk="}}` + "\n",
		sync + `{"return":{"count":9999999999,"buf-b64":"////","eof":false}}` + "\n", sync + `{"return":{"count":-1}}` + "\n", sync + `{"return":1}` + "\n",
		sync + `{"error":{"desc":"\u001b[2J` + strings.Repeat("x", 1000) + `"}}` + "\n", sync + `{"return":null}` + "\n", sync + "{\n", "\xff\xff\xff" + sync,
		strings.Repeat("[", 20000) + "\n" + sync, `{"return":1}` + "\n", "\n\n", sync + `{"return":{"buf-b64":"` + strings.Repeat("A", 200) + `"}}` + "\n",
	} {
		f.Add([]byte(seed), uint8(len(seed)))
	}
	kinds := []string{OpenFile, ReadFile, WriteFile, CloseFile}
	f.Fuzz(func(t *testing.T, said []byte, kind uint8) {
		ours, theirs := net.Pipe()
		go io.Copy(io.Discard, theirs)
		go func() {
			theirs.Write(said)
			theirs.Close()
		}()
		c := New(ours)
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 2*askTime)
		defer cancel()
		var err error
		if kind%5 == 4 {
			var r Result
			if r, err = c.Exec(ctx, []string{"true"}); err == nil && r.Exited && (r.Code < 0 || r.Code > 255) {
				t.Errorf("exit code %d", r.Code)
			}
		} else {
			var r FileAnswer
			if r, err = c.File(ctx, FileArgs{Do: kinds[kind%5], Path: "/a", Mode: "r", Count: 100, Data: []byte("data")}); err == nil && (len(r.Data) > 100 || r.Count < 0 || r.Count > 4) {
				t.Errorf("got %+v", r)
			}
		}
		if errors.Is(err, ErrSilent) {
			t.Error("it did not end with the connection")
		}
		if err != nil && (len(err.Error()) > 2000 || strings.ContainsFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) })) {
			t.Errorf("got %q", err)
		}
	})
}
