package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/qemu/qcow2"
)

// imageSite is a server of images, and a state directory whose catalog has them.
type imageSite struct {
	*httptest.Server
	t     *testing.T
	dir   string
	mu    sync.Mutex
	files map[string][]byte
	gets  map[string]int
	hold  chan struct{} // an image's second half waits for it
	env   []string
}

func newImageSite(t *testing.T) *imageSite {
	t.Helper()
	s := &imageSite{t: t, dir: lab.Dir(t), files: map[string][]byte{}, gets: map[string]int{}}
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(s.Close)
	if err := os.Chmod(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(s.dir, "ca.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(ca, cert, 0o644); err != nil {
		t.Fatal(err)
	}
	s.env = append(os.Environ(), "SSL_CERT_FILE="+ca, "QNET_STATE_DIR="+filepath.Join(s.dir, "state"), "QNET_RUN_DIR="+filepath.Join(s.dir, "run"), "SUDO_UID=", "NO_PROXY=*")
	return s
}

// holds has the site hold its answers back from here on, until the channel is closed.
func (s *imageSite) holds() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold = make(chan struct{})
}

func (s *imageSite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	s.mu.Lock()
	content, hold := s.files[name], s.hold
	s.gets[name+" "+r.Header.Get("Range")]++
	s.mu.Unlock()
	if content == nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", `"1"`)
	if hold != nil && r.Header.Get("Range") == "" && name == "held.img" {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		w.Write(content[:len(content)/2])
		w.(http.Flusher).Flush()
		select {
		case <-hold:
			w.Write(content[len(content)/2:])
		case <-r.Context().Done():
		}
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

func (s *imageSite) got(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gets[what]
}

// put publishes an image under its name.
func (s *imageSite) put(name, file, format string, content []byte) {
	s.t.Helper()
	sum := sha256.Sum256(content)
	s.mu.Lock()
	s.files[file] = content
	s.files[file+".sha256"] = []byte(hex.EncodeToString(sum[:]) + "  another-name\n")
	s.mu.Unlock()
	config := filepath.Join(s.dir, "state", "config")
	entry := fmt.Sprintf("[%s]\nurl = %q\nsums = %q\nformat = %q\n", name, s.URL+"/"+file, s.URL+"/"+file+".sha256", format)
	old, _ := os.ReadFile(filepath.Join(config, "images.toml"))
	if err := errors.Join(os.MkdirAll(config, 0o755), os.WriteFile(filepath.Join(config, "images.toml"), append(old, entry...), 0o644)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *imageSite) command(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = s.env
	return cmd
}

// qnet runs a command and returns what it writes, and its exit code.
func (s *imageSite) qnet(args ...string) (string, int) {
	out, err := s.command(args...).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(out), exit.ExitCode()
	}
	return string(out), 0
}

func emptyDisk(t *testing.T, size int64) []byte {
	t.Helper()
	f, err := qcow2.NewOverlay(t.TempDir(), size)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 512<<10)
	n, _ := f.ReadAt(b, 0)
	return b[:n]
}

// From the catalog to the cache, and out of it again.
func TestImageCommand(t *testing.T) {
	s := newImageSite(t)
	s.put("golden", "golden.img", "qcow2", emptyDisk(t, 3<<30))
	for _, step := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"image", "ls"}, 0, "debian-12"},
		{[]string{"image", "inspect", "debian-12"}, 0, "not in it; qnet image pull debian-12"},
		{[]string{"image", "inspect", "golden"}, 0, "your images.toml"},
		{[]string{"image", "pull", "goldne"}, 2, "did you mean golden?"},
		{[]string{"image", "pull", "https://e.org/x.qcow2"}, 2, "with its checksum behind it"},
		{[]string{"image", "pull"}, 2, "needs an image"},
		{[]string{"image"}, 2, "allowed: ls, pull, inspect, rm, prune"},
		{[]string{"image", "push"}, 2, `got "push"`},
		{[]string{"image", "ls", "x"}, 2, `takes no argument "x"`},
		{[]string{"image", "rm", "golden"}, 1, "not in the cache"},
		{[]string{"image", "pull", "golden"}, 0, "golden: pulled, 256.0 KiB, checksum verified"},
		{[]string{"image", "pull", "golden"}, 0, "nothing newer is published"},
		{[]string{"image", "ls"}, 0, "256.0 KiB  3.0 GiB"},
		{[]string{"image", "inspect", "golden"}, 0, "published: sha256:"},
		{[]string{"image", "inspect", "none"}, 2, "not in the catalog"},
		{[]string{"image", "rm", "golden"}, 0, "removed golden, 256.0 KiB"},
		{[]string{"image", "prune"}, 0, "0 bytes are free again"},
	} {
		if out, code := s.qnet(step.args...); code != step.code || !strings.Contains(out, step.want) {
			t.Errorf("qnet %v: exit code %d, want %d with %q:\n%s", step.args, code, step.code, step.want, out)
		}
	}
	var rows []struct{ Name string }
	out, err := s.command("image", "ls", "--json").Output()
	if err = errors.Join(err, json.Unmarshal(out, &rows)); err != nil || len(rows) < 20 {
		t.Errorf("%v: %s", err, out)
	}
}

// A plan of a VM whose image is not in the cache shows what a run does, and downloads nothing.
func TestPlanWithoutTheImage(t *testing.T) {
	lab.Require(t, lab.QEMU)
	s := newImageSite(t)
	s.put("golden", "golden.img", "qcow2", emptyDisk(t, 3<<30))
	profile := filepath.Join(s.dir, "web.toml")
	if err := os.WriteFile(profile, []byte("image = \"golden\"\n[[nic]]\nmode = \"user\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out, code := s.qnet("plan", profile)
	if code != 0 || strings.Contains(out, "refused") || !strings.Contains(out, "an overlay on image golden") || len(s.gets) > 0 {
		t.Errorf("exit code %d, GETs %v\n%s", code, s.gets, out)
	}
}

// Of twenty processes that pull an image at once, one downloads it.
func TestTwentyPulls(t *testing.T) {
	s := newImageSite(t)
	s.put("held", "held.img", "qcow2", emptyDisk(t, 1<<30))
	s.holds()
	var all sync.WaitGroup
	var waiting sync.WaitGroup
	waiting.Add(19)
	for range 20 {
		all.Go(func() {
			cmd := s.command("image", "pull", "held")
			stderr := &watcher{word: "waiting for that", seen: waiting.Done}
			cmd.Stderr = stderr
			if err := cmd.Run(); err != nil {
				t.Errorf("%v: %s", err, stderr)
			}
		})
	}
	waiting.Wait()
	close(s.hold)
	all.Wait()
	if n := s.got("held.img "); n != 1 {
		t.Errorf("%d GETs", n)
	}
}

// watcher calls seen once a word was written.
type watcher struct {
	text
	word string
	seen func()
}

func (w *watcher) Write(b []byte) (int, error) {
	n, err := w.text.Write(b)
	if w.seen != nil && strings.Contains(w.String(), w.word) {
		w.seen()
		w.seen = nil
	}
	return n, err
}

// The proxy of the environment is used, for the checksums and for the image.
func TestPullByProxy(t *testing.T) {
	s := newImageSite(t)
	s.put("golden", "golden.img", "qcow2", emptyDisk(t, 3<<30))
	var tunnels atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != "example.com:443" { // as the certificate says
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		tunnels.Add(1)
		to, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		from, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(from, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			io.Copy(to, buffered)
			to.(*net.TCPConn).CloseWrite()
		}()
		io.Copy(from, to)
		from.Close()
	}))
	defer proxy.Close()
	config := filepath.Join(s.dir, "state/config/images.toml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.ReplaceAll(text, []byte(s.URL), []byte("https://example.com"))
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	s.env = append(s.env, "HTTPS_PROXY="+proxy.URL, "NO_PROXY=")
	if out, code := s.qnet("image", "pull", "golden"); code != 0 || tunnels.Load() != 2 {
		t.Errorf("exit code %d, %d tunnels\n%s", code, tunnels.Load(), out)
	}
}

// A pull that is killed in the middle leaves a part, with which the next one goes on.
func TestKilledPull(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT} {
		s := newImageSite(t)
		content := emptyDisk(t, 1<<30)
		s.put("held", "held.img", "qcow2", content)
		s.holds()
		cmd := s.command("image", "pull", "held")
		var stderr text
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		part := filepath.Join(s.dir, "state/images/parts/held")
		lab.Eventually(t, 20*time.Second, "half of it", func() bool {
			info, err := os.Stat(part)
			return err == nil && info.Size() == int64(len(content)/2)
		})
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		if kept := strings.Contains(stderr.String(), "the part that came is kept"); kept != (signal == syscall.SIGINT) {
			t.Errorf("%v: %s", signal, &stderr)
		}
		if out, code := s.qnet("image", "pull", "held"); code != 0 || s.got(fmt.Sprintf("held.img bytes=%d-", len(content)/2)) != 1 {
			t.Errorf("%v: exit code %d, GETs %v\n%s", signal, code, s.gets, out)
		}
		if left, _ := filepath.Glob(filepath.Join(s.dir, "state/images/[pwl]*/*")); len(left) > 0 {
			t.Errorf("%v: left %v", signal, left)
		}
	}
}

// A pull that is killed in the middle of a conversion takes qemu-img with it; the next one
// needs no download.
func TestKilledConversion(t *testing.T) {
	lab.Require(t, lab.Program("qemu-img"))
	s := newImageSite(t)
	content := make([]byte, 48<<20)
	for i := range content {
		content[i] = byte(i * i >> 7)
	}
	s.put("big", "big.raw", "raw", content)
	cmd := s.command("image", "pull", "big")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	work := filepath.Join(s.dir, "state/images/work/big.qcow2")
	lab.Eventually(t, 30*time.Second, "the conversion", func() bool { info, err := os.Stat(work); return err == nil && info.Size() > 0 })
	cmd.Process.Kill()
	cmd.Wait()
	lab.Eventually(t, 10*time.Second, "no qemu-img", func() bool { return !opened(work) })
	if out, code := s.qnet("image", "pull", "big"); code != 0 || s.got("big.raw ") != 1 {
		t.Errorf("exit code %d, GETs %v\n%s", code, s.gets, out)
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, "state/images/[pwl]*/*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// opened reports whether a process has the file open.
func opened(path string) bool {
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && target == path {
			return true
		}
	}
	return false
}

// Under sudo all files are the user's, and qemu-img runs as the user.
func TestPullWithSudo(t *testing.T) {
	lab.Require(t, lab.Root, lab.Program("qemu-img"))
	const uid = 65534
	s := newImageSite(t)
	s.put("small", "small.raw", "raw", bytes.Repeat([]byte("data"), 1<<18))
	s.put("plain", "plain.img", "qcow2", emptyDisk(t, 1<<30))
	if err := os.Chown(filepath.Join(s.dir, "state"), uid, uid); err != nil {
		t.Fatal(err)
	}
	s.env = append(s.env, "SUDO_UID=65534", "SUDO_GID=65534")
	if out, code := s.qnet("image", "pull", "small", "plain"); code != 0 {
		t.Fatalf("exit code %d\n%s", code, out)
	}
	files := 0
	filepath.Walk(filepath.Join(s.dir, "state/images"), func(path string, info os.FileInfo, err error) error {
		var st unix.Stat_t
		if err := errors.Join(err, unix.Lstat(path, &st)); err != nil || st.Uid != uid || st.Gid != uid {
			t.Errorf("%s: owner %d, group %d, %v", path, st.Uid, st.Gid, err)
		}
		files++
		return nil
	})
	if files < 8 {
		t.Errorf("only %d files", files)
	}
}
