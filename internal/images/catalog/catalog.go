// Package catalog lists the images that have a name: those that qnet knows, and over them
// those of the user's own file, images.toml in the configuration directory. It reads that
// file and opens no connection. docs/images.md describes the file.
package catalog

import (
	"bytes"
	_ "embed" // catalog.toml
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/qnet-vm/qnet/internal/images/sums"
	"github.com/qnet-vm/qnet/internal/legible"
	"github.com/qnet-vm/qnet/internal/order"
	"github.com/qnet-vm/qnet/internal/pattern"
)

//go:embed catalog.toml
var builtIn []byte

// FileName is the user's file, in the configuration directory.
const FileName = "images.toml"

// Formats are what an image may be in; qnet turns each into qcow2.
var Formats = []string{"qcow2", "raw", "vmdk", "vhdx", "vdi"}

// Firmwares are the values of an entry's firmware.
var Firmwares = []string{"bios", "uefi", "uefi-secure"}

// NamePattern is what the name of an image matches.
var NamePattern = pattern.Of(`^[a-z][a-z0-9.-]{0,62}$`)

// Entry is an image with a name. Keys are those of the file.
type Entry struct {
	Name     string   `toml:"-"`
	Title    string   `toml:"title"`   // for people, such as "Debian 12 (bookworm)"
	Aliases  []string `toml:"aliases"` // other names
	URL      string   `toml:"url"`     // of the image; it may be compressed: .gz, .xz, .zst, .bz2
	Sums     string   `toml:"sums"`    // URL of the published checksum, always HTTPS; "" with a checksum below
	SHA256   string   `toml:"sha256"`  // checksum in place of Sums, hexadecimal
	SHA512   string   `toml:"sha512"`  // likewise
	Signed   string   `toml:"signed"`  // URL of the checksums' OpenPGP signature; with an ending behind URL, of the image's own; may be ""
	Keys     []string `toml:"keys"`    // files of OpenPGP keys that sign, absolute once loaded; the first that is there counts
	Format   string   `toml:"format"`  // one of Formats, before compression; default qcow2
	User     string   `toml:"user"`    // that cloud-init makes without one of the caller's; may be ""
	Firmware string   `toml:"firmware"`
	Own      bool     `toml:"-"` // of the user's file
}

// Sum returns the checksum that the entry itself has, zero if it is published at Sums.
func (e Entry) Sum() (sums.Sum, error) {
	switch {
	case e.SHA512 != "":
		return sums.New(sums.SHA512, e.SHA512)
	case e.SHA256 != "":
		return sums.New(sums.SHA256, e.SHA256)
	}
	return sums.Sum{}, nil
}

// Catalog is the entries by name.
type Catalog struct{ entries map[string]Entry }

// Load returns qnet's catalog with the user's entries of the directory over it: an entry of
// the same name takes the place of qnet's. A missing file is no error.
func Load(dir string) (Catalog, error) {
	c := Catalog{map[string]Entry{}}
	if err := c.add(builtIn, "catalog.toml", false); err != nil {
		return c, err
	}
	if dir == "" {
		return c, nil
	}
	file := filepath.Join(dir, FileName)
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("read catalog: %w", err)
	}
	return c, c.add(text, file, true)
}

// add puts the entries of a file over those that are there.
func (c Catalog) add(text []byte, file string, own bool) error {
	entries := map[string]Entry{}
	if err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&entries); err != nil {
		return decodeError(file, err)
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		e := entries[name]
		e.Name, e.Own = name, own
		if e.Format == "" {
			e.Format = "qcow2"
		}
		for i, key := range e.Keys {
			if !filepath.IsAbs(key) {
				e.Keys[i] = filepath.Join(filepath.Dir(file), key)
			}
		}
		for _, problem := range e.problems() {
			errs = append(errs, fmt.Errorf("%s: %s.%s", file, legible.Text(name), problem))
		}
		c.entries[name] = e
	}
	return errors.Join(errs...)
}

// decodeError gives the library's error the place in the file.
func decodeError(file string, err error) error {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) && len(unknown.Errors) > 0 {
		line, _ := unknown.Errors[0].Position()
		return fmt.Errorf("%s:%d: %s: unknown key; docs/images.md lists them", file, line, legible.Text(strings.Join(unknown.Errors[0].Key(), ".")))
	}
	var bad *toml.DecodeError
	if errors.As(err, &bad) {
		line, _ := bad.Position()
		return fmt.Errorf("%s:%d: %s", file, line, legible.Text(strings.TrimPrefix(bad.Error(), "toml: ")))
	}
	return fmt.Errorf("read %s: %s", file, legible.Text(err.Error()))
}

// problems says what is wrong with an entry, each as key, value and what is allowed.
func (e Entry) problems() []string {
	var list []string
	for _, name := range append([]string{e.Name}, e.Aliases...) {
		if !NamePattern().MatchString(name) {
			list = append(list, fmt.Sprintf("name: got %q, allowed: %s", name, NamePattern()))
		}
	}
	if !isURL(e.URL, "http", "https") {
		list = append(list, fmt.Sprintf("url: got %q, allowed: http://... or https://...", e.URL))
	}
	if e.Sums != "" && !isURL(e.Sums, "https") {
		list = append(list, fmt.Sprintf("sums: got %q, allowed: https://..., so that nobody on the way can change it", e.Sums))
	}
	if _, err := e.Sum(); err != nil {
		list = append(list, err.Error())
	}
	if given := count(e.Sums, e.SHA256, e.SHA512); given != 1 {
		list = append(list, fmt.Sprintf("sums: got %d of sums, sha256, sha512; exactly one is needed", given))
	}
	list = append(list, e.signedProblems()...)
	if !slices.Contains(Formats, e.Format) {
		list = append(list, fmt.Sprintf("format: got %q, allowed: %s", e.Format, strings.Join(Formats, ", ")))
	}
	if e.Firmware != "" && !slices.Contains(Firmwares, e.Firmware) {
		list = append(list, fmt.Sprintf("firmware: got %q, allowed: %s", e.Firmware, strings.Join(Firmwares, ", ")))
	}
	return list
}

// signedProblems are those of signed and keys.
func (e Entry) signedProblems() []string {
	var list []string
	if e.Signed != "" && !isURL(e.Signed, "http", "https") {
		list = append(list, fmt.Sprintf("signed: got %q, allowed: http://... or https://...", e.Signed))
	}
	if len(e.Keys) > 0 && (e.Signed == "" || e.Sums == "" && !strings.HasPrefix(e.Signed, e.URL+".")) {
		list = append(list, "keys: nothing is signed; allowed: beside signed, which is of sums, or url with an ending behind, such as .sig")
	}
	return list
}

func count(values ...string) int {
	return len(values) - len(slices.DeleteFunc(slices.Clone(values), func(v string) bool { return v != "" }))
}

// isURL reports whether a text is a URL of one of the schemes, with a host and a file name.
func isURL(text string, schemes ...string) bool {
	u, err := url.Parse(text)
	return err == nil && slices.Contains(schemes, u.Scheme) && u.Host != "" && path.Base(u.Path) != "/" && path.Base(u.Path) != "."
}

// Names returns the names, sorted, without aliases.
func (c Catalog) Names() []string { return slices.Sorted(maps.Keys(c.entries)) }

// Find returns the entry of a name or an alias. A name goes before an alias, an alias of
// the user's before one of qnet's.
func (c Catalog) Find(name string) (Entry, bool) {
	if e, ok := c.entries[name]; ok {
		return e, true
	}
	var found Entry
	for _, n := range c.Names() {
		if e := c.entries[n]; slices.Contains(e.Aliases, name) && (found.Name == "" || e.Own && !found.Own) {
			found = e
		}
	}
	return found, found.Name != ""
}

// mostSimilar bounds the list of Similar.
const mostSimilar = 4

// Similar returns names that a user who typed another one may have meant, the nearest
// first; none if none is near.
func (c Catalog) Similar(name string) []string {
	near := map[string]int{}
	for _, n := range c.Names() {
		for _, candidate := range append([]string{n}, c.entries[n].Aliases...) {
			d := distance(name, candidate)
			if strings.HasPrefix(candidate, strings.TrimRight(name, "0123456789.-")) && len(name) > 2 {
				d = min(d, 2)
			}
			if old, ok := near[n]; d <= max(2, len(name)/4) && (!ok || d < old) {
				near[n] = d
			}
		}
	}
	list := slices.Sorted(maps.Keys(near))
	order.By(list, func(a, b string) int { return near[a] - near[b] })
	return list[:min(len(list), mostSimilar)]
}

// distance is how many letters must change, come or go to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal, row[j+1] = row[j+1], min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
