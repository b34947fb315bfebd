// Package images keeps the images that VMs start from: it finds out what a name stands for,
// downloads it once, verifies it, makes it a qcow2 image, and keeps that by its digest.
//
//	<dir>/blobs/<hex>.qcow2  an image, read-only, named by the SHA-256 of its bytes
//	<dir>/blobs/<hex>.json   what it is and where it came from (Record)
//	<dir>/refs/<key>.json    which image a name, URL or file stands for
//	<dir>/parts/<key>        what came of a download; the same pull goes on with it
//	<dir>/work/              results of a conversion that goes on
//	<dir>/locks/<key>        held by the process that pulls the image
//
// An image appears in blobs in one go, when it is whole and verified: a crash at any instant
// leaves a part, which the next pull goes on with, or a file in work, which it removes. VMs
// hold an image by its digest, so a newer one of the same name comes beside it.
//
// All files are the user's, also under sudo. The methods of a Store may be called
// concurrently, by several processes.
package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/atomicfile"
	"github.com/qnet-vm/qnet/internal/images/catalog"
	"github.com/qnet-vm/qnet/internal/images/fetch"
	"github.com/qnet-vm/qnet/internal/images/sums"
	"github.com/qnet-vm/qnet/internal/perm"
	"github.com/qnet-vm/qnet/profiles"
)

// Store is the cache of one user.
type Store struct {
	Dir    string       // place.Places.Images
	Config string       // place.Places.Config, which has the user's catalog; "" for none
	User   *asuser.User // whose files they are; nil for the caller's
	Fetch  fetch.Fetcher
	Search string // the value of PATH, where qemu-img is looked for

	// MayRead refuses a file that is open, and that stands for an image; nil refuses none. It is
	// called with the user's rights.
	MayRead func(*os.File) error
}

// Image is what a name, a URL or a file stands for. It need not be in the cache.
type Image struct {
	Name     string // of the catalog, without alias; "" for a URL or a file
	Title    string
	URL      string // "" for a file
	File     string // absolute path; "" for a URL
	Sum      sums.Sum
	Sums     string   // URL where the checksum is published, if Sum is zero
	Signed   string   // URL of the signature of that, or with an ending behind URL, of the image itself; may be ""
	Keys     []string // files of the keys that make the signature, of which the first that is there counts
	Format   string   // before compression
	User     string   // that its cloud-init makes; may be ""
	Firmware string   // "bios", "uefi", "uefi-secure"; "" says nothing
	Own      bool     // of the user's catalog
}

// Source is the image as a user names it.
func (i Image) Source() string {
	switch {
	case i.Name != "":
		return i.Name
	case i.File != "":
		return i.File
	}
	return i.URL
}

// key names the image's files in the cache.
func (i Image) key() string {
	if i.Name != "" {
		return i.Name
	}
	kind, text := "url", i.URL+" "+i.Sum.String()
	if i.File != "" {
		kind, text = "file", i.File
	}
	sum := sha256.Sum256([]byte(text))
	return kind + "-" + hex.EncodeToString(sum[:])[:32]
}

// Local is an image that VMs can use.
type Local struct {
	Path     string // of a qcow2 image, which is read-only
	Digest   string // "sha256:" and hexadecimal digits, of the bytes at Path
	Size     int64  // bytes of the disk that it is of
	Name     string // Image.Source
	User     string // Image.User
	Firmware string // Image.Firmware
}

// UnknownError is a name that no catalog has.
type UnknownError struct {
	Name    string
	Similar []string
}

// Error names what is similar.
func (e *UnknownError) Error() string {
	text := fmt.Sprintf("image %q: not in the catalog", e.Name)
	if len(e.Similar) > 0 {
		text += "; did you mean " + strings.Join(e.Similar, ", ") + "?"
	}
	return text
}

// Hint says where the names are.
func (e *UnknownError) Hint() string {
	return `"qnet image ls" lists the names; a file is written with its directory, such as ./disk.qcow2`
}

// Resolve returns what an image of a profile or of the command line stands for. It looks into
// the catalogs only: it does not tell whether a file exists.
func (s Store) Resolve(ref profiles.Image) (image Image, err error) {
	if ref.Name == "" {
		return resolvePlain(ref)
	}
	c, err := s.Catalog()
	if err != nil {
		return image, err
	}
	e, ok := c.Find(ref.Name)
	if !ok {
		return image, &UnknownError{ref.Name, c.Similar(ref.Name)}
	}
	sum, err := e.Sum()
	return Image{
		Name: e.Name, Title: e.Title, URL: e.URL, Sum: sum, Sums: e.Sums, Signed: e.Signed, Keys: e.Keys,
		Format: e.Format, User: e.User, Firmware: e.Firmware, Own: e.Own,
	}, err
}

func resolvePlain(ref profiles.Image) (Image, error) {
	if ref.File != "" {
		return Image{File: ref.File, Format: formatOf(ref.File)}, nil
	}
	sum, err := sums.Parse(ref.Sum)
	return Image{URL: ref.URL, Sum: sum, Format: formatOf(ref.URL)}, err
}

// formatOf returns the format by the ending of a file's name, "" if that does not tell.
func formatOf(name string) string {
	name = strings.ToLower(name)
	for _, c := range []string{".gz", ".xz", ".zst", ".bz2"} {
		name = strings.TrimSuffix(name, c)
	}
	return map[string]string{".qcow2": "qcow2", ".raw": "raw", ".vmdk": "vmdk", ".vhdx": "vhdx", ".vdi": "vdi"}[filepath.Ext(name)]
}

// Catalog returns qnet's catalog with the user's over it.
func (s Store) Catalog() (c catalog.Catalog, err error) {
	err = s.User.Do(func() error {
		c, err = catalog.Load(s.Config)
		return err
	})
	return c, err
}

// Ensure returns the image from the cache, and downloads it first if it is not there. An image
// that is there needs no network. Of processes that want the same image, one downloads it and
// the others wait. report may be nil.
func (s Store) Ensure(ctx context.Context, i Image, report Progress) (local Local, err error) {
	err = s.do(func() error {
		local, err = s.find(i)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		local, _, err = s.pull(ctx, i, report.orNone(), false)
		return err
	})
	return local, err
}

// Pull is Ensure, but looks whether a newer image is published under the name. It reports
// whether the cache did not have it.
func (s Store) Pull(ctx context.Context, i Image, report Progress) (local Local, isNew bool, err error) {
	err = s.do(func() error {
		local, isNew, err = s.pull(ctx, i, report.orNone(), true)
		return err
	})
	return local, isNew, err
}

// do runs f with the user's rights, in a cache that is there.
func (s Store) do(f func() error) error {
	if s.Dir == "" {
		return errors.New("choose directory of images: you have no home; set HOME, or QNET_STATE_DIR")
	}
	return s.User.Do(func() error {
		for _, dir := range []string{"blobs", "refs", "parts", "work", "locks"} {
			if err := perm.MkdirAll(filepath.Join(s.Dir, dir), private); err != nil {
				return fmt.Errorf("make directory of images: %w", err)
			}
		}
		return f()
	})
}

// private are the permissions of the cache's directories: what is in work may be open to all.
const private = 0o700

func (s Store) file(dir, name string) string { return filepath.Join(s.Dir, dir, name) }

// Record is what the cache knows of an image.
type Record struct {
	Digest    string    `json:"digest"`
	Name      string    `json:"name"` // Image.Source
	Title     string    `json:"title,omitempty"`
	URL       string    `json:"url,omitempty"`
	Published string    `json:"published,omitempty"` // checksum of what was downloaded, which was verified
	Sums      string    `json:"sums,omitempty"`      // where that was published
	Signature string    `json:"signature,omitempty"` // whether its signature was verified, and by which keys, or why not
	Format    string    `json:"format"`              // of what was downloaded
	User      string    `json:"user,omitempty"`
	Firmware  string    `json:"firmware,omitempty"`
	Size      int64     `json:"size"`     // bytes of the disk
	Bytes     int64     `json:"bytes"`    // length of the file
	Modified  int64     `json:"modified"` // of the file, nanoseconds since 1970
	Pulled    time.Time `json:"pulled"`
}

// local returns what VMs get of an image.
func (s Store) local(r Record) Local {
	return Local{s.file("blobs", hexOf(r.Digest)+".qcow2"), r.Digest, r.Size, r.Name, r.User, r.Firmware}
}

const digestPrefix = sums.SHA256 + ":"

func hexOf(digest string) string { return strings.TrimPrefix(digest, digestPrefix) }

// ref is which image a source stands for now.
type ref struct {
	Source string `json:"source"`
	Digest string `json:"digest"`
	Stamp  string `json:"stamp,omitempty"` // of a file: what shows that it did not change
	Size   int64  `json:"size,omitempty"`  // of a file that is used in its place: bytes of its disk
}

func readJSON(path string, into any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

func writeJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(path, append(text, '\n'))
}

// find returns the image from the cache, or an error that wraps fs.ErrNotExist.
func (s Store) find(i Image) (Local, error) {
	var r ref
	if err := readJSON(s.file("refs", i.key()+".json"), &r); err != nil {
		return Local{}, err
	}
	if i.File != "" {
		stamp, err := stampOf(i.File)
		switch {
		case err != nil:
			return Local{}, fmt.Errorf("read image: %w", err)
		case stamp != r.Stamp:
			return Local{}, fs.ErrNotExist
		case r.Size > 0:
			return Local{Path: i.File, Digest: r.Digest, Size: r.Size, Name: i.File}, nil
		}
	}
	return s.byDigest(r.Digest)
}

// Find returns the image if the cache has it. It makes nothing and needs no network.
func (s Store) Find(i Image) (local Local, found bool, err error) {
	err = s.User.Do(func() error {
		local, err = s.find(i)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return Local{}, false, nil
	}
	return local, err == nil, err
}

// ByDigest returns an image of the cache, whatever name it has now. The error wraps
// fs.ErrNotExist if it is not there.
func (s Store) ByDigest(digest string) (local Local, err error) {
	err = s.User.Do(func() error {
		local, err = s.byDigest(digest)
		return err
	})
	return local, err
}

func (s Store) byDigest(digest string) (Local, error) {
	if _, err := sums.Parse(digest); err != nil {
		return Local{}, err
	}
	var r Record
	if err := readJSON(s.file("blobs", hexOf(digest)+".json"), &r); err != nil {
		return Local{}, err
	}
	local := s.local(r)
	info, err := os.Stat(local.Path)
	if err != nil {
		return Local{}, err
	}
	if info.Size() != r.Bytes || info.ModTime().UnixNano() != r.Modified {
		return Local{}, &ChangedError{local.Path, r.Name}
	}
	return local, nil
}

// ChangedError is an image of the cache that another program wrote to.
type ChangedError struct{ Path, Name string }

// Error names the file.
func (e *ChangedError) Error() string {
	return fmt.Sprintf("image %s: the file %s was changed since it was pulled", e.Name, e.Path)
}

// Hint says what to do.
func (e *ChangedError) Hint() string {
	return fmt.Sprintf(`remove the file and run "qnet image pull %s"; VMs that were started from the changed image must be made anew`, e.Name)
}

// stampOf returns what changes when a file does.
func stampOf(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d %d", info.Size(), info.ModTime().UnixNano()), nil
}
