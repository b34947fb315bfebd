package images

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/images/convert"
	"github.com/qnet-vm/qnet/internal/images/fetch"
	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/vmdir"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu/program"
	"github.com/qnet-vm/qnet/qemu/qcow2"
)

// site serves files and counts the requests for each.
type site struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string][]byte
	gets  map[string]int
	wait  chan struct{} // if not nil, answers about images wait until it is closed
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{files: map[string][]byte{}, gets: map[string]int{}}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		s.mu.Lock()
		content, there := s.files[name]
		s.gets[name]++
		wait := s.wait
		s.mu.Unlock()
		if !there {
			http.NotFound(w, r)
			return
		}
		if wait != nil && name != "SHA256SUMS" {
			<-wait
		}
		w.Header().Set("ETag", `"`+sha(content)[:8]+`"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *site) put(name string, content []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[name] = content
}

// publish writes the checksums of all files.
func (s *site) publish() {
	var text strings.Builder
	for name, content := range s.files {
		fmt.Fprintf(&text, "%s  %s\n", sha(content), name)
	}
	s.put("SHA256SUMS", []byte(text.String()))
}

func (s *site) count(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gets[name]
}

func sha(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// store returns an empty cache, whose catalog has the image "test" of the site.
func (s *site) store(t *testing.T, more string) Store {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "config")
	text := fmt.Sprintf("[test]\naliases = [\"t\"]\nurl = %q\nsums = %q\nuser = \"me\"\nfirmware = \"uefi\"\n%s", s.URL+"/test.qcow2", s.URL+"/SHA256SUMS", more)
	if err := errors.Join(os.Mkdir(config, 0o700), os.WriteFile(filepath.Join(config, "images.toml"), []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	return Store{
		Dir: filepath.Join(dir, "images"), Config: config, Search: os.Getenv("PATH"),
		Fetch: fetch.Fetcher{Client: s.Client(), Stall: 10 * time.Second, Pause: time.Millisecond},
	}
}

// disk returns the bytes of a qcow2 image that holds nothing.
func disk(t *testing.T, size int64) []byte {
	t.Helper()
	f, err := qcow2.NewOverlay(t.TempDir(), size)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1<<20)
	n, _ := f.ReadAt(b, 0)
	return b[:n]
}

func resolve(t *testing.T, s Store, name string) Image {
	t.Helper()
	ref, err := profiles.ParseImage(t.TempDir(), name)
	if err != nil {
		t.Fatal(err)
	}
	i, err := s.Resolve(ref)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// An image is downloaded once, verified, and there without network afterwards; a newer one of
// the name comes beside it.
func TestEnsureAndPull(t *testing.T) {
	s := newSite(t)
	first, second := disk(t, 1<<30), disk(t, 2<<30)
	s.put("test.qcow2", first)
	s.publish()
	store := s.store(t, "")
	i := resolve(t, store, "t")
	if i.Name != "test" || i.User != "me" || i.Firmware != "uefi" || !i.Own {
		t.Errorf("resolved: %+v", i)
	}
	if _, found, err := store.Find(i); found || err != nil {
		t.Errorf("found before it was pulled: %v, %v", found, err)
	}
	var stages []Stage
	local, err := store.Ensure(t.Context(), i, func(e Event) {
		if len(stages) == 0 || stages[len(stages)-1] != e.Stage {
			stages = append(stages, e.Stage)
		}
	})
	want := Local{local.Path, "sha256:" + sha(first), 1 << 30, "test", "me", "uefi"}
	if err != nil || local != want {
		t.Fatalf("got %+v, %v, want %+v", local, err, want)
	}
	if got, _ := os.ReadFile(local.Path); !bytes.Equal(got, first) {
		t.Error("the image has other bytes")
	}
	if there, found, err := store.Find(i); !found || err != nil || there != local {
		t.Errorf("not found afterwards: %+v, %v, %v", there, found, err)
	}
	if info, err := os.Stat(local.Path); err != nil || info.Mode() != 0o444 {
		t.Errorf("permissions: %v, %v", info.Mode(), err)
	}
	if got := fmt.Sprint(stages); got != "[looking downloading ready]" {
		t.Errorf("stages: %s", got)
	}
	if left, _ := filepath.Glob(store.Dir + "/[pwl]*/*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	again, isNew, err := store.Pull(t.Context(), i, nil)
	if err != nil || isNew || again != local || s.count("test.qcow2") != 1 {
		t.Errorf("pull of what is there: %+v, %v, %v, %d GETs", again, isNew, err, s.count("test.qcow2"))
	}
	s.put("test.qcow2", second)
	s.publish()
	if again, err := store.Ensure(t.Context(), i, nil); err != nil || again != local {
		t.Errorf("a newer one is published: Ensure got %+v, %v", again, err)
	}
	newer, isNew, err := store.Pull(t.Context(), i, nil)
	if err != nil || !isNew || newer.Digest != "sha256:"+sha(second) {
		t.Errorf("pull of the newer: %+v, %v, %v", newer, isNew, err)
	}
	s.Close()
	if again, err := store.Ensure(t.Context(), i, nil); err != nil || again != newer {
		t.Errorf("without network: %+v, %v", again, err)
	}
	if old, err := store.ByDigest(local.Digest); err != nil || old != local {
		t.Errorf("the old one by its digest: %+v, %v", old, err)
	}
	var network *fetch.NetError
	if _, _, err := store.Pull(t.Context(), i, nil); !errors.As(err, &network) {
		t.Errorf("pull without network: %v", err)
	}
}

// Of many that want an image at once, one downloads it, and the others say that they wait.
func TestOneDownloadForMany(t *testing.T) {
	s := newSite(t)
	content := disk(t, 1<<30)
	s.put("test.qcow2", content)
	s.publish()
	s.wait = make(chan struct{})
	store := s.store(t, "")
	i := resolve(t, store, "test")
	const many = 20
	var waiting, all sync.WaitGroup
	waiting.Add(many - 1)
	for range many {
		all.Go(func() {
			said := false
			local, err := store.Ensure(t.Context(), i, func(e Event) {
				if e.Stage == Waiting && !said {
					said = true
					waiting.Done()
				}
			})
			if err != nil || local.Digest != "sha256:"+sha(content) {
				t.Errorf("got %+v, %v", local, err)
			}
		})
	}
	waiting.Wait()
	close(s.wait)
	all.Wait()
	if n := s.count("test.qcow2"); n != 1 {
		t.Errorf("%d GETs", n)
	}
}

// A download with another checksum leaves nothing. One that was published meanwhile is right.
func TestWrongChecksum(t *testing.T) {
	s := newSite(t)
	s.put("test.qcow2", disk(t, 1<<30))
	s.publish()
	s.put("test.qcow2", disk(t, 2<<30))
	store := s.store(t, "")
	_, err := store.Ensure(t.Context(), resolve(t, store, "test"), nil)
	var wrong *SumError
	if !errors.As(err, &wrong) || wrong.Hint() == "" || !strings.Contains(err.Error(), s.URL+"/SHA256SUMS") || !strings.Contains(err.Error(), sha(disk(t, 2<<30))) {
		t.Fatalf("got %v", err)
	}
	if left, _ := filepath.Glob(store.Dir + "/*/*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	url := s.URL + "/test.qcow2#sha256=" + sha([]byte("other"))
	if _, err := store.Ensure(t.Context(), resolve(t, store, url), nil); !errors.As(err, &wrong) || !strings.Contains(err.Error(), "is asked for") {
		t.Errorf("by URL: %v", err)
	}
	s.wait = make(chan struct{})
	done := make(chan error)
	go func() {
		_, err := store.Ensure(context.Background(), resolve(t, store, "test"), nil)
		done <- err
	}()
	lab.Eventually(t, 10*time.Second, "the request", func() bool { return s.count("test.qcow2") == 3 })
	s.publish()
	close(s.wait)
	if err := <-done; err != nil {
		t.Errorf("published meanwhile: %v", err)
	}
}

func TestUnknownName(t *testing.T) {
	store := newSite(t).store(t, "")
	_, err := store.Resolve(profiles.Image{Name: "debain-12"})
	var unknown *UnknownError
	if !errors.As(err, &unknown) || unknown.Hint() == "" || !strings.Contains(err.Error(), "did you mean debian-12") {
		t.Errorf("got %v", err)
	}
	if _, err := (Store{}).Ensure(t.Context(), Image{File: "/x"}, nil); err == nil || !strings.Contains(err.Error(), "HOME") {
		t.Errorf("without a home: %v", err)
	}
}

func TestSumsWithoutTheImage(t *testing.T) {
	s := newSite(t)
	s.put("SHA256SUMS", []byte(sha(nil)+"  other.qcow2\n"))
	store := s.store(t, "")
	if _, err := store.Ensure(t.Context(), resolve(t, store, "test"), nil); err == nil || !strings.Contains(err.Error(), "do not list it; they are at "+s.URL) {
		t.Errorf("got %v", err)
	}
}

// raw returns a disk with some data and much nothing.
func raw() []byte {
	b := make([]byte, 8<<20)
	copy(b[1<<20:], "data in the image")
	return b
}

// tool runs a program and returns what it writes to stdout.
func tool(t *testing.T, in []byte, args ...string) []byte {
	t.Helper()
	lab.Require(t, lab.Program(args[0]))
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return out
}

// formats are images of one disk in all formats, by file name.
func formats(t *testing.T) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	plain := filepath.Join(dir, "d.raw")
	if err := os.WriteFile(plain, raw(), 0o600); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{
		"d.raw": raw(), "d.raw.gz": tool(t, raw(), "gzip", "-c"), "d.raw.xz": tool(t, raw(), "xz", "-c"),
		"d.raw.zst": tool(t, raw(), "zstd", "-c"), "d.raw.bz2": tool(t, raw(), "bzip2", "-c"),
	}
	for _, format := range []string{"qcow2", "vmdk", "vhdx", "vdi"} {
		out := filepath.Join(dir, "d."+format)
		tool(t, nil, "qemu-img", "convert", "-f", "raw", "-O", format, plain, out)
		files["d."+format], _ = os.ReadFile(out)
	}
	files["d.qcow2.xz"] = tool(t, files["d.qcow2"], "xz", "-c")
	return files
}

// Whatever an image comes in, a qcow2 image with the same disk is made of it.
func TestFormats(t *testing.T) {
	lab.Require(t, lab.Program("qemu-img"))
	s := newSite(t)
	store := s.store(t, "")
	for name, content := range formats(t) {
		s.put(name, content)
		for _, source := range []string{s.URL + "/" + name + "#sha256=" + sha(content), filepath.Join(t.TempDir(), name)} {
			if !strings.Contains(source, "#") {
				if err := os.WriteFile(source, content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			local, err := store.Ensure(t.Context(), resolve(t, store, source), nil)
			if err != nil || local.Size != 8<<20 {
				t.Errorf("%s: got %+v, %v", source, local, err)
				continue
			}
			out := filepath.Join(t.TempDir(), "back.raw")
			tool(t, nil, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", local.Path, out)
			back, _ := os.ReadFile(out)
			file, _ := os.ReadFile(local.Path)
			if !bytes.Equal(back, raw()) || local.Digest != "sha256:"+sha(file) {
				t.Errorf("%s: another disk, or digest", name)
			}
			if again, err := store.Ensure(t.Context(), resolve(t, store, source), nil); err != nil || again != local {
				t.Errorf("%s: again %+v, %v", source, again, err)
			}
		}
	}
	if left, _ := filepath.Glob(store.Dir + "/[pwl]*/*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestWithoutQemuImg(t *testing.T) {
	if _, err := os.Stat("/usr/bin/qemu-img"); err == nil {
		lab.Require(t, lab.Namespaces)
		lab.Run(t, func(t *testing.T) {
			lab.Sh(t, "mount --bind /dev/null /usr/bin/qemu-img")
			withoutQemuImg(t)
		})
		return
	}
	withoutQemuImg(t)
}

func withoutQemuImg(t *testing.T) {
	store := newSite(t).store(t, "")
	store.Search = "/nowhere"
	path := filepath.Join(t.TempDir(), "d.raw")
	if err := os.WriteFile(path, raw(), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := store.Ensure(t.Context(), resolve(t, store, path), nil)
	var lack *program.Lack
	if !errors.As(err, &lack) || !strings.Contains(lack.Hint(), "apt install qemu-utils") {
		t.Errorf("got %v", err)
	}
}

// An image whose header asks for other files, or for too much, is refused and not kept.
func TestUntrustedImages(t *testing.T) {
	s := newSite(t)
	store := s.store(t, "")
	backed := disk(t, 1<<30)
	backed[8+7], backed[16+3] = 200, 11 // offset and length of the backing file's name
	external := disk(t, 1<<30)
	external[72+7] |= 1 << 2
	huge := disk(t, 1<<30)
	huge[24] = 1
	for name, test := range map[string]struct {
		content []byte
		want    string
	}{
		"backed.qcow2":   {backed, "needs a backing file"},
		"external.qcow2": {external, "keeps its data in another file"},
		"huge.qcow2":     {huge, "more than 2.0 TiB"},
		"text.qcow2":     {[]byte("<html>"), "the file is raw, want qcow2"},
		"really.raw":     {disk(t, 1<<30), "the file is qcow2, want raw"},
		"desc.vmdk":      {[]byte("# Disk DescriptorFile\nRW 1 FLAT \"/etc/passwd\" 0\n"), "keeps its data in other files"},
		"empty.vmdk":     {append([]byte("KDMV\x01"), make([]byte, 600)...), "could name any file of the host"},
		"x.raw.gz":       {[]byte("no gzip"), "the file is no gz"},
	} {
		s.put(name, test.content)
		_, err := store.Ensure(t.Context(), resolve(t, store, s.URL+"/"+name+"#sha256="+sha(test.content)), nil)
		var untrusted *convert.UntrustedError
		if !errors.As(err, &untrusted) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
	if left, _ := filepath.Glob(store.Dir + "/*/*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// A file that is no disk by its contents is not made one, unless its name says so.
func TestFileThatIsNoDisk(t *testing.T) {
	lab.Require(t, lab.Program("qemu-img"))
	store := newSite(t).store(t, "")
	for name, c := range map[string]struct {
		offset int
		sign   string
		ok     bool
	}{
		"a.toml.bak": {0, "name = \"a\"\n", false}, "mbr.img": {510, "\x55\xaa", true}, "gpt": {512, "EFI PART", true},
		"cd.iso": {32769, "CD001", true}, "root.ext4": {1080, "\x53\xef", true}, "any.raw": {0, "text", true},
	} {
		path := filepath.Join(t.TempDir(), name)
		content := make([]byte, 1<<20)
		copy(content[c.offset:], c.sign)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := store.Ensure(t.Context(), resolve(t, store, path), nil)
		if (err == nil) != c.ok || !c.ok && (!errors.Is(err, convert.ErrNoDisk) || !strings.Contains(err.Error(), path)) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// A file that has changed places with one that may not be read gets neither converted nor used: it
// is asked for once it is open, with its descriptor.
func TestFileThatMayNotBeRead(t *testing.T) {
	store, refused := newSite(t).store(t, ""), errors.New("it may not be read")
	secret, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	secret = filepath.Join(secret, "secret.raw")
	store.MayRead = func(f *os.File) error {
		if place, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd())); err != nil || place == secret {
			return errors.Join(refused, err)
		}
		return nil
	}
	path := filepath.Join(t.TempDir(), "image.raw")
	if err := errors.Join(os.WriteFile(secret, raw(), 0o600), os.Symlink(secret, path)); err != nil {
		t.Fatal(err)
	}
	if local, err := store.Ensure(t.Context(), resolve(t, store, path), nil); !errors.Is(err, refused) {
		t.Errorf("got %+v, %v", local, err)
	}
	if blobs, err := os.ReadDir(filepath.Join(store.Dir, "blobs")); err != nil || len(blobs) != 0 {
		t.Errorf("the cache has %v, %v", blobs, err)
	}
}

// A file that is used in its place has its digest, which changes with it.
func TestOwnFile(t *testing.T) {
	store := newSite(t).store(t, "")
	path := filepath.Join(t.TempDir(), "golden.qcow2")
	first := disk(t, 1<<30)
	if err := os.WriteFile(path, first, 0o600); err != nil {
		t.Fatal(err)
	}
	i := resolve(t, store, path)
	local, err := store.Ensure(t.Context(), i, nil)
	if want := (Local{Path: path, Digest: "sha256:" + sha(first), Size: 1 << 30, Name: path}); err != nil || local != want {
		t.Errorf("got %+v, %v, want %+v", local, err, want)
	}
	second := disk(t, 3<<30)
	if err := os.WriteFile(path, second, 0o600); err != nil {
		t.Fatal(err)
	}
	os.Chtimes(path, time.Time{}, time.Now().Add(time.Second))
	if local, err = store.Ensure(t.Context(), i, nil); err != nil || local.Digest != "sha256:"+sha(second) || local.Size != 3<<30 {
		t.Errorf("changed: %+v, %v", local, err)
	}
	os.Remove(path)
	if _, err = store.Ensure(t.Context(), i, nil); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("gone: %v", err)
	}
}

// An image that a program wrote to is no longer used.
func TestChangedImage(t *testing.T) {
	s := newSite(t)
	s.put("test.qcow2", disk(t, 1<<30))
	s.publish()
	store := s.store(t, "")
	i := resolve(t, store, "test")
	local, err := store.Ensure(t.Context(), i, nil)
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(local.Path, 0o600)
	if err := os.WriteFile(local.Path, disk(t, 2<<30), 0o600); err != nil {
		t.Fatal(err)
	}
	var changed *ChangedError
	if _, err := store.Ensure(t.Context(), i, nil); !errors.As(err, &changed) || changed.Hint() == "" {
		t.Errorf("got %v", err)
	}
	os.Remove(local.Path)
	if again, err := store.Ensure(t.Context(), i, nil); err != nil || again != local {
		t.Errorf("once it is removed: %+v, %v", again, err)
	}
}

// An image that a run has just opened stays, though no record tells of the run yet.
func TestHold(t *testing.T) {
	s := newSite(t)
	content := disk(t, 1<<30)
	s.put("a.qcow2", content)
	store := s.store(t, "")
	local, err := store.Ensure(t.Context(), resolve(t, store, s.URL+"/a.qcow2#sha256="+sha(content)), nil)
	if err != nil {
		t.Fatal(err)
	}
	unused := func(string) []string { return nil }
	open := func() *os.File {
		f, err := os.Open(local.Path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	first, late := open(), open()
	if err := Hold(first); err != nil {
		t.Fatal(err)
	}
	found, err := store.List()
	if err != nil {
		t.Fatal(err)
	}
	var held *HeldError
	if err := store.Remove(found[0], unused); !errors.As(err, &held) {
		t.Errorf("remove: %v", err)
	}
	if pruned, err := store.Prune(unused); err != nil || len(pruned.Images) != 0 {
		t.Errorf("pruned %+v, %v", pruned, err)
	}
	first.Close()
	if pruned, err := store.Prune(unused); err != nil || len(pruned.Images) != 1 {
		t.Errorf("pruned %+v, %v", pruned, err)
	}
	if err := Hold(late); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("hold of what is removed: %v", err)
	}
}

// rm and prune leave what VMs need.
func TestRemove(t *testing.T) {
	s := newSite(t)
	a, b := disk(t, 1<<30), disk(t, 2<<30)
	s.put("a.qcow2", a)
	s.put("b.qcow2", b)
	store := s.store(t, "")
	for name, content := range map[string][]byte{"a": a, "b": b} {
		url := fmt.Sprintf("%s/%s.qcow2#sha256=%s", s.URL, name, sha(content))
		if _, err := store.Ensure(t.Context(), resolve(t, store, url), nil); err != nil {
			t.Fatal(err)
		}
	}
	vms := t.TempDir()
	for _, name := range []string{"web", "db"} {
		d, err := vmdir.New(vms, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(d.Make(), d.Save(vmdir.Record{Bases: []vmdir.Base{{Digest: "sha256:" + sha(a)}}})); err != nil {
			t.Fatal(err)
		}
	}
	inUse, err := store.UsedBy(vms)
	if err != nil {
		t.Fatal(err)
	}
	found, err := store.Match(Image{URL: s.URL + "/a.qcow2"}, "")
	if err != nil || len(found) != 1 || !found[0].Current {
		t.Fatalf("got %+v, %v", found, err)
	}
	var used *UsedError
	if err := store.Remove(found[0], inUse); !errors.As(err, &used) || !strings.Contains(err.Error(), "db, web") {
		t.Errorf("remove of what is used: %v", err)
	}
	os.WriteFile(filepath.Join(store.Dir, "parts", "left"), []byte("1234"), 0o600)
	os.WriteFile(filepath.Join(store.Dir, "work", "left.qcow2"), nil, 0o600)
	pruned, err := store.Prune(inUse)
	if err != nil || len(pruned.Images) != 1 || pruned.Images[0].Digest != "sha256:"+sha(b) || pruned.Bytes != int64(len(b))+4 {
		t.Errorf("pruned %+v, %v", pruned, err)
	}
	list, err := store.List()
	if err != nil || len(list) != 1 || list[0].Digest != "sha256:"+sha(a) {
		t.Errorf("left %+v, %v", list, err)
	}
	if found, err = store.Match(Image{}, sha(a)[:8]); err != nil {
		t.Fatal(err)
	}
	if err := store.Remove(found[0], func(string) []string { return nil }); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(store.Dir + "/*/*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	var none *NotCachedError
	if _, err := store.Match(Image{}, sha(a)); !errors.As(err, &none) {
		t.Errorf("got %v", err)
	}
}
