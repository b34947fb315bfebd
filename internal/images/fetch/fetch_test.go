package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/images/sums"
	"github.com/qnet-vm/qnet/internal/lab"
)

// site is a server of one file, which may do it badly.
type site struct {
	*httptest.Server
	mu       sync.Mutex
	content  []byte
	tag      string
	requests []string // their Range
	cut      []int    // after how many bytes each of the first answers ends
	serve    http.HandlerFunc
}

func newSite(t *testing.T, content []byte) *site {
	t.Helper()
	s := &site{content: content, tag: `"one"`}
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Header.Get("Range"))
	cut, serve := 0, s.serve
	if len(s.cut) > 0 {
		cut, s.cut = s.cut[0], s.cut[1:]
	}
	content, tag := s.content, s.tag
	s.mu.Unlock()
	switch {
	case serve != nil:
		serve(w, r)
		return
	case cut > 0:
		w = &cutter{w, cut}
	}
	w.Header().Set("ETag", tag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// cutter ends the connection after some bytes of the body.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(b []byte) (int, error) {
	if len(b) > c.left {
		c.ResponseWriter.Write(b[:c.left])
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= len(b)
	return c.ResponseWriter.Write(b)
}

func (s *site) ranges() string { return strings.Join(s.requests, ",") }

func (s *site) fetcher() Fetcher {
	return Fetcher{Client: s.Client(), Stall: 5 * time.Second, Pause: time.Millisecond, Agent: "test"}
}

func ignore(int64, int64) {}

// pseudo is text that repeats nowhere.
func pseudo(n int) []byte {
	b := make([]byte, 0, n+20)
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, "%d,", i*i)
	}
	return b[:n]
}

func want(t *testing.T, path string, content []byte, got *sums.Writer) {
	t.Helper()
	there, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(there, content) {
		t.Errorf("the file has %d bytes, want %d; %v", len(there), len(content), err)
	}
	w := sums.NewWriter()
	w.Write(content)
	if got.Of(sums.SHA512) != w.Of(sums.SHA512) || got.Of(sums.SHA256) != w.Of(sums.SHA256) {
		t.Error("the checksums are not those of the content")
	}
}

// A download that is cut again and again goes on where it was, in one call and in the next.
func TestResume(t *testing.T) {
	content := pseudo(1 << 20)
	s := newSite(t, content)
	s.cut = []int{100_000, 200_000}
	path := filepath.Join(t.TempDir(), "part")
	got, err := s.fetcher().File(t.Context(), s.URL, path, ignore)
	if err != nil {
		t.Fatal(err)
	}
	want(t, path, content, got)
	if r := s.ranges(); r != ",bytes=100000-,bytes=300000-" {
		t.Errorf("asked for %s", r)
	}
	s.requests = nil
	if err := os.Truncate(path, 1000); err != nil { // as if the process had been killed
		t.Fatal(err)
	}
	if got, err = s.fetcher().File(t.Context(), s.URL, path, ignore); err != nil {
		t.Fatal(err)
	}
	want(t, path, content, got)
	if got, err = s.fetcher().File(t.Context(), s.URL, path, ignore); err != nil { // it is whole: 416
		t.Fatal(err)
	}
	want(t, path, content, got)
	if r := s.ranges(); r != "bytes=1000-,bytes=1048576-" {
		t.Errorf("asked for %s", r)
	}
}

// A part of another version, or of a server that cannot tell or cannot resume, is thrown away.
func TestStartAnew(t *testing.T) {
	old, content := bytes.Repeat([]byte("old"), 1000), pseudo(300_000)
	whole := func(refuse func(w http.ResponseWriter)) func(*site) {
		return func(s *site) {
			s.serve = func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Range") != "" && refuse != nil {
					refuse(w)
					return
				}
				w.Write(content)
			}
		}
	}
	for name, change := range map[string]func(s *site){
		"new-version":    func(s *site) { s.tag = `"two"` },
		"shorter":        func(s *site) { s.content, s.tag = content[:500], `"two"` },
		"ignores-ranges": whole(nil),
		"wrong-range": whole(func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", "bytes 0-9/300000")
			w.WriteHeader(http.StatusPartialContent)
			w.Write(content[:10])
		}),
		"refuses-range": whole(func(w http.ResponseWriter) { w.WriteHeader(http.StatusRequestedRangeNotSatisfiable) }),
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, old)
			path := filepath.Join(t.TempDir(), "part")
			if _, err := s.fetcher().File(t.Context(), s.URL, path, ignore); err != nil {
				t.Fatal(err)
			}
			os.Truncate(path, 700)
			s.content = content
			change(s)
			got, err := s.fetcher().File(t.Context(), s.URL, path, ignore)
			if err != nil {
				t.Fatal(err)
			}
			want(t, path, s.content, got)
		})
	}
}

// What cannot be resumed for want of a validator begins anew.
func TestNoValidator(t *testing.T) {
	s := newSite(t, pseudo(300_000))
	s.tag = `W/"weak"`
	s.cut = []int{1000}
	path := filepath.Join(t.TempDir(), "part")
	got, err := s.fetcher().File(t.Context(), s.URL, path, ignore)
	if err != nil {
		t.Fatal(err)
	}
	want(t, path, s.content, got)
	if r := s.ranges(); r != "," {
		t.Errorf("asked for %q, want twice for all", r)
	}
}

func TestStalledServer(t *testing.T) {
	s := newSite(t, nil)
	release := make(chan struct{})
	defer close(release)
	s.serve = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
		case <-release:
		}
	}
	f := s.fetcher()
	f.Stall = 100 * time.Millisecond
	_, err := f.File(t.Context(), s.URL, filepath.Join(t.TempDir(), "part"), ignore)
	var network *NetError
	if !errors.Is(err, ErrStalled) || !errors.As(err, &network) || network.Hint() == "" || !strings.Contains(err.Error(), "sent nothing for 100ms") {
		t.Errorf("got %v", err)
	}
	if n := len(s.requests); n != tries {
		t.Errorf("%d tries, want %d", n, tries)
	}
}

// A slow server that sends now and then is no stalled one.
func TestSlowServer(t *testing.T) {
	s := newSite(t, nil)
	s.serve = func(w http.ResponseWriter, _ *http.Request) {
		for range 10 {
			w.Write([]byte("x"))
			w.(http.Flusher).Flush()
			time.Sleep(100 * time.Millisecond)
		}
	}
	f := s.fetcher()
	f.Stall = 700 * time.Millisecond
	if _, err := f.File(t.Context(), s.URL, filepath.Join(t.TempDir(), "part"), ignore); err != nil || len(s.requests) != 1 {
		t.Errorf("got %v after %d requests", err, len(s.requests))
	}
}

func TestCancelKeepsThePart(t *testing.T) {
	s := newSite(t, pseudo(4<<20))
	ctx, cancel := context.WithCancel(t.Context())
	path := filepath.Join(t.TempDir(), "part")
	_, err := s.fetcher().File(ctx, s.URL, path, func(done, _ int64) {
		if done > 0 {
			cancel()
		}
	})
	info, statErr := os.Stat(path)
	if !errors.Is(err, context.Canceled) || statErr != nil || info.Size() == 0 || info.Size() == 4<<20 {
		t.Fatalf("got %v, %v, %v", err, info, statErr)
	}
	s.requests = nil
	if _, err := s.fetcher().File(t.Context(), s.URL, path, ignore); err != nil || s.ranges() != fmt.Sprintf("bytes=%d-", info.Size()) {
		t.Errorf("afterwards %v, asked for %s", err, s.ranges())
	}
}

func TestRedirects(t *testing.T) {
	content := pseudo(1000)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(content) }))
	defer plain.Close()
	s := newSite(t, content)
	s.serve = func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/round":
			http.Redirect(w, r, "/round", http.StatusFound)
		case "/plain":
			http.Redirect(w, r, plain.URL+"/file", http.StatusFound)
		case "/here":
			http.Redirect(w, r, "/file", http.StatusMovedPermanently)
		default:
			w.Write(content)
		}
	}
	f := s.fetcher()
	for _, path := range []string{"/here", "/plain"} { // the checksum tells what came
		part := filepath.Join(t.TempDir(), "part")
		got, err := f.File(t.Context(), s.URL+path, part, ignore)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		want(t, part, content, got)
	}
	if text, err := f.Text(t.Context(), s.URL+"/here", 2000); err != nil || !bytes.Equal(text, content) {
		t.Error(err)
	}
	for _, test := range []struct{ from, want string }{
		{s.URL + "/plain", "from https to http"},
		{plain.URL, "only https"},
		{s.URL + "/round", "redirected 10 times"},
	} {
		if _, err := f.Text(t.Context(), test.from, 2000); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.from, err, test.want)
		}
	}
	if _, err := f.Text(t.Context(), s.URL+"/file", 999); err == nil || !strings.Contains(err.Error(), "more than 999 bytes") {
		t.Errorf("long: %v", err)
	}
}

func TestBadAnswers(t *testing.T) {
	for code, wantTries := range map[int]int{404: 1, 403: 1, 500: tries, 503: tries, 429: tries} {
		s := newSite(t, nil)
		s.serve = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
		_, err := s.fetcher().File(t.Context(), s.URL, filepath.Join(t.TempDir(), "part"), ignore)
		var status *HTTPError
		if !errors.As(err, &status) || status.Code != code || status.Hint() == "" || len(s.requests) != wantTries {
			t.Errorf("%d: got %v after %d tries", code, err, len(s.requests))
		}
	}
}

func TestNoNetwork(t *testing.T) {
	s := newSite(t, nil)
	f, from := s.fetcher(), s.URL
	s.Close()
	_, err := f.File(t.Context(), from, filepath.Join(t.TempDir(), "part"), ignore)
	var network *NetError
	if !errors.As(err, &network) || !errors.Is(err, unix.ECONNREFUSED) || !strings.Contains(network.Hint(), "needs no network") {
		t.Errorf("got %v", err)
	}
}

// A disk that cannot hold the file is found before it fills, and one that fills meanwhile
// keeps what came.
// A name server that answers nothing is waited for once, not at each try.
func TestDeadNameServer(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", silent.LocalAddr().String())
	}}
	dialer := &net.Dialer{Timeout: 200 * time.Millisecond, Resolver: resolver}
	f := Fetcher{Client: &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}}, Pause: time.Hour}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err = f.Text(ctx, "https://images.example.org/SHA256SUMS", 1000)
	var bad *NetError
	if !errors.As(err, &bad) || !strings.Contains(err.Error(), "get from images.example.org: no name server answers") {
		t.Errorf("got %v", err)
	}
}

func TestFullDisk(t *testing.T) {
	lab.Run(t, func(t *testing.T) {
		dir := t.TempDir()
		if err := unix.Mount("none", dir, "tmpfs", 0, "size=1m"); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(dir, unix.MNT_DETACH)
		s := newSite(t, pseudo(3<<20))
		path := filepath.Join(dir, "part")
		_, err := s.fetcher().File(t.Context(), s.URL, path, ignore)
		var full *FullError
		if !errors.As(err, &full) || !errors.Is(err, unix.ENOSPC) || full.Missing < 2<<20 || full.Missing > 2<<20+64<<10 || full.Dir != dir || full.Hint() == "" {
			t.Errorf("got %v, %+v", err, full)
		}
		s.serve = func(w http.ResponseWriter, _ *http.Request) { // its length is not known before
			w.Header().Set("ETag", `"one"`)
			for range 3 {
				w.Write(pseudo(1 << 20))
				w.(http.Flusher).Flush()
			}
		}
		if _, err := s.fetcher().File(t.Context(), s.URL, path, ignore); !errors.As(err, &full) {
			t.Errorf("got %v", err)
		}
		if info, err := os.Stat(path); err != nil || info.Size() < 500<<10 {
			t.Errorf("kept: %v, %v", info, err)
		}
		if err := Forget(path); err != nil {
			t.Error(err)
		}
	})
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 bytes", 1023: "1023 bytes", 1536: "1.5 KiB", 330 << 20: "330.0 MiB", 5 << 40: "5.0 TiB", 1 << 60: "1048576.0 TiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
