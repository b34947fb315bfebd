package guestagent

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
)

// fakeAgent answers as qemu-ga does, from files of the test's own folder. What hostile has for
// a command is said in place of that.
type fakeAgent struct {
	t       *testing.T
	hostile map[string]string
	open    *os.File
	ended   *exec.Cmd
	out     bytes.Buffer
	err     bytes.Buffer
}

func (f *fakeAgent) answer(line string) string {
	var q struct {
		Execute   string
		Arguments struct {
			Path, Mode string
			Arg        []string
			Count      int
			Data       []byte `json:"buf-b64"`
		}
	}
	if err := json.Unmarshal([]byte(line), &q); err != nil || q.Execute == "guest-sync-delimited" {
		return ""
	}
	if said := f.hostile[q.Execute]; said != "" {
		return said + "\n"
	}
	a, err, result := q.Arguments, error(nil), any(struct{}{})
	switch q.Execute {
	case "guest-exec":
		f.out.Reset()
		f.err.Reset()
		f.ended = exec.Command(a.Path, a.Arg...)
		f.ended.Stdout, f.ended.Stderr = &f.out, &f.err
		f.ended.Run() // the exit code says it
		result = map[string]any{"pid": 7}
	case "guest-exec-status":
		result = map[string]any{"exited": true, "exitcode": f.ended.ProcessState.ExitCode(), "out-data": f.out.Bytes(), "err-data": f.err.Bytes()}
	case "guest-file-open":
		flags := map[string]int{"r": os.O_RDONLY, "w": os.O_WRONLY | os.O_CREATE | os.O_TRUNC}
		f.open, err = os.OpenFile(a.Path, flags[a.Mode], 0o666)
		result = 1000
	case "guest-file-read":
		b := make([]byte, a.Count)
		n, readErr := io.ReadFull(f.open, b)
		result = map[string]any{"count": n, "buf-b64": b[:n], "eof": readErr != nil}
	case "guest-file-write":
		n, _ := f.open.Write(a.Data[:(len(a.Data)+1)/2]) // as much as it likes
		result = map[string]any{"count": n, "eof": false}
	case "guest-file-close":
		err = f.open.Close()
	}
	if err != nil {
		return fmt.Sprintf(`{"error": {"desc": %q}}`+"\n", err)
	}
	b, _ := json.Marshal(map[string]any{"return": result})
	return string(b) + "\n"
}

// A file goes to the guest and back whole, with its permissions, of which the host keeps those that
// let no others write: to a path, into a folder, and
// in place of another.
func TestCopy(t *testing.T) {
	dir, want := t.TempDir(), bytes.Repeat([]byte("a\x00\xffz\n"), 30_001)
	f := &fakeAgent{t: t}
	c := play(t, f.answer)
	for _, to := range []string{dir, dir + "/it's $HOME", dir + "/x"} {
		if err := Send(t.Context(), c, File{bytes.NewReader(want), "x", 0o4662}, to); err != nil {
			t.Fatal(err)
		}
	}
	if got := lab.Names(t, dir); got != "it's $HOME x" {
		t.Errorf("in the guest: %s", got)
	}
	var got bytes.Buffer
	mode := fs.FileMode(0)
	err := Fetch(t.Context(), c, dir+"/x", func(m fs.FileMode) (io.Writer, error) { mode = m; return &got, nil })
	if err != nil || mode != 0o640 || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%d bytes, %v, %v", got.Len(), mode, err)
	}
}

// A copy that fails leaves the guest as it was, also when its time is over.
func TestFailedCopy(t *testing.T) {
	f := &fakeAgent{t: t}
	c := play(t, f.answer)
	for name, src := range map[string]io.Reader{
		"no more":                   io.MultiReader(strings.NewReader("begins"), iotest.ErrReader(errors.New("no more"))),
		"context deadline exceeded": endless{},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(dir+"/x", []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		err := Send(ctx, c, File{src, "x", 0o644}, dir)
		cancel()
		old, _ := os.ReadFile(dir + "/x")
		if err == nil || !strings.Contains(err.Error(), name) || lab.Names(t, dir) != "x" || string(old) != "old" {
			t.Errorf("%s: %v, left: %s", name, err, lab.Names(t, dir))
		}
	}
	for to, want := range map[string]string{"/dev/null": "is no file", "/no/such/": "the guest says", strings.Repeat("/x", 3000): "4096 bytes", "/\xff": "UTF-8"} {
		if err := Send(t.Context(), c, File{strings.NewReader(""), "x", 0o644}, to); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20s: %v, want %q", to, err, want)
		}
	}
	if err := Fetch(t.Context(), c, "/dev/zero", nil); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// Whatever a hostile agent answers, a copy from and to it ends with an error.
func TestHostileCopies(t *testing.T) {
	in64 := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ command, says, want string }{
		{"guest-file-open", `{"return": "x"}`, "read the guest agent's answer"},
		{"guest-file-open", `{"error": {"desc": "disabled"}}`, `says "disabled"`},
		{"guest-file-write", `{"return": {"count": 0}}`, "a count of bytes that were not sent"},
		{"guest-file-write", `{"return": {"count": 99999}}`, "a count of bytes that were not sent"},
		{"guest-file-write", `{"return": {"count": -1}}`, "a count of bytes that were not sent"},
		{"guest-file-read", `{"return": {"eof": false}}`, "no end of the file"},
		{"guest-file-read", `{"return": {"buf-b64": "` + in64(fetchChunk+1) + `"}}`, "more bytes than were asked for"},
		{"guest-file-read", `{"return": {"buf-b64": "?"}}`, "read the guest agent's answer"},
		{"guest-file-close", `{"error": {"desc": "No space left on device"}}`, "No space left"},
		{"guest-exec-status", `{"return": {"exited": true, "out-data": "` + in64(6) + `"}}`, "says"},
	} {
		agent := play(t, (&fakeAgent{t: t, hostile: map[string]string{c.command: c.says}}).answer)
		var errs []error
		if c.command != "guest-file-read" {
			errs = append(errs, Send(t.Context(), agent, File{strings.NewReader("new"), "new", 0o644}, file))
		}
		if c.command != "guest-file-write" {
			errs = append(errs, Fetch(t.Context(), agent, file, func(fs.FileMode) (io.Writer, error) { return io.Discard, nil }))
		}
		for _, err := range errs {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %.300v, want %q", c.command, err, c.want)
			}
		}
		if b, err := os.ReadFile(file); err != nil || string(b) != "text" || lab.Names(t, filepath.Dir(file)) != "file" && c.command != "guest-exec-status" {
			t.Errorf("%s: left: %s", c.command, lab.Names(t, filepath.Dir(file)))
		}
		removeParts(t, filepath.Dir(file))
	}
}

// removeParts removes what a guest keeps that lies about its mktemp.
func removeParts(t *testing.T, dir string) {
	t.Helper()
	parts, _ := filepath.Glob(dir + "/*" + partMark + "*")
	for _, p := range parts {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
}

// A file of the guest without an end fills no disk.
func TestEndlessFile(t *testing.T) {
	w := counter{}
	err := drain(t.Context(), endlessGuest{}, 1, &w)
	if !errors.Is(err, errHuge) || w.n > mostCopied {
		t.Errorf("%d bytes, %v", w.n, err)
	}
}

type counter struct{ n int64 }

func (c *counter) Write(b []byte) (int, error) { c.n += int64(len(b)); return len(b), nil }

type endlessGuest struct{ Guest }

var zeros = make([]byte, fetchChunk)

func (endlessGuest) File(context.Context, FileArgs) (FileAnswer, error) {
	return FileAnswer{Data: zeros}, nil
}
