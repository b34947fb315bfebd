package call

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/qnet-vm/qnet/internal/images"
	"github.com/qnet-vm/qnet/internal/pattern"
	"github.com/qnet-vm/qnet/internal/vmdir"
	"github.com/qnet-vm/qnet/profiles"
)

// Source is where the profile of an operand comes from.
type Source struct {
	Path string // of the file; that of a VM which is run by its image's name need not exist
	Text string // what stands for a file that does not exist

	Image   string   // that Text is of
	Allowed []string // folders that the last run of the VM was allowed; nil for a file
}

// imageFiles matches the names of files that are images and no profiles.
var imageFiles = pattern.Of(`(?i)\.(qcow2|img|raw|iso|vmdk|vhdx?|vdi)(\.(gz|xz|zst|bz2))?$`)

// Source returns the profile that an operand means: a file; the name of a VM that was run
// before; or an image, by its name in the catalog, its file or its URL, which is run as it is.
// name, if there is one, is the name that the VM shall have.
func (c *Call) Source(operand, name string) (Source, error) {
	image := imageFiles().MatchString(operand) || strings.Contains(operand, "://")
	if !image && (strings.Contains(operand, "/") || strings.HasSuffix(operand, ".toml") || operand == "" || operand == "-") {
		return c.file(operand)
	}
	if !image {
		if _, err := os.Stat(operand); err == nil {
			return Source{Path: operand}, nil
		}
		if record, dir, err := c.Record(operand); !errors.Is(err, fs.ErrNotExist) {
			return c.again(record, dir, name, err)
		}
		if _, err := os.Stat(operand + ".toml"); err == nil {
			return Source{Path: operand}, nil // reading it says what was meant
		}
	}
	s, err := c.ofImage(operand, name)
	if unknown, ok := errors.AsType[*images.UnknownError](err); ok {
		return s, &Usage{Text: noSource(operand, unknown.Similar)}
	}
	return s, err
}

// file returns the profile in a file. That of a VM which is run by its image's name, as messages
// show it, need not exist.
func (c *Call) file(path string) (Source, error) {
	if vm := filepath.Dir(path); filepath.Dir(vm) == c.Places.VMs {
		if record, dir, err := c.Record(filepath.Base(vm)); err == nil && path == dir.OwnProfile() {
			return c.own(dir, record.Image)
		}
	}
	return Source{Path: path}, nil
}

// noSource says that an operand means nothing.
func noSource(operand string, similar []string) string {
	text := fmt.Sprintf("find %q: it is no file, no VM that keeps a disk, and no image of the catalog", operand)
	if len(similar) > 0 {
		return text + "; did you mean " + strings.Join(similar, ", ") + "?"
	}
	return text + `; "qnet image ls" lists images, "qnet ls" VMs`
}

// Record returns what is known of a VM that was run before. The error wraps fs.ErrNotExist if
// there is no such VM, or it keeps no files.
func (c *Call) Record(name string) (r vmdir.Record, dir vmdir.Dir, err error) {
	if !profiles.ValidName(name) || c.Places.VMs == "" {
		return r, dir, fmt.Errorf("find VM %.80q: %w", name, fs.ErrNotExist)
	}
	if dir, err = vmdir.New(c.Places.VMs, name); err != nil {
		return r, dir, err
	}
	err = c.User.Do(func() (err error) {
		r, err = dir.Load()
		return err
	})
	return r, dir, err
}

// again returns the profile of a VM that was run before.
func (c *Call) again(r vmdir.Record, dir vmdir.Dir, name string, err error) (Source, error) {
	switch {
	case err != nil:
		return Source{}, err
	case r.Profile != "":
		if _, err := os.Stat(r.Profile); errors.Is(err, fs.ErrNotExist) {
			return Source{}, &lostProfile{dir.Name(), r.Profile}
		}
		return Source{Path: r.Profile, Allowed: r.Allowed}, nil
	case name == "" || name == dir.Name():
		return c.own(dir, r.Image)
	}
	if _, err := os.Stat(dir.OwnProfile()); err == nil {
		return Source{Path: dir.OwnProfile()}, nil
	}
	return c.ofImage(r.Image, name)
}

// lostProfile tells that the profile of a VM is gone.
type lostProfile struct{ vm, path string }

// Error names it.
func (e *lostProfile) Error() string {
	return fmt.Sprintf("find profile of VM %q: it was %s, which is gone", e.vm, e.path)
}

// Hint says how to go on.
func (e *lostProfile) Hint() string {
	return fmt.Sprintf("qnet run PATH with its new path goes on with the VM's disk; qnet rm %s removes that", e.vm)
}

// KnownImage refuses what is no image: neither a name of the catalog, nor a file, which may be
// missing, nor a URL.
func (c *Call) KnownImage(wd, image string) error {
	_, err := c.image(wd, image)
	return err
}

func (c *Call) image(wd, image string) (profiles.Image, error) {
	parsed, err := profiles.ParseImage(wd, image)
	if err != nil {
		return parsed, &Usage{Text: err.Error()}
	}
	return parsed, c.known(parsed)
}

// ofImage returns the profile of a VM that is just an image.
func (c *Call) ofImage(image, name string) (Source, error) {
	wd, err := os.Getwd()
	if err != nil {
		return Source{}, err
	}
	parsed, err := c.image(wd, image)
	if err != nil {
		return Source{}, err
	}
	if name == "" {
		name = nameOf(image)
	}
	if !profiles.ValidName(name) || profiles.Reserved(name) != "" {
		return Source{}, &Usage{Text: fmt.Sprintf("%s: no name of a VM can be made of it; say one with --name", image)}
	}
	dir, err := vmdir.New(c.Places.VMs, name)
	if err != nil {
		return Source{}, err
	}
	return c.own(dir, parsed.String())
}

// nameOf makes the name of a VM of an image's: "debian-12", "rocky-9-4".
func nameOf(image string) string {
	name, _, _ := strings.Cut(image, "#")
	name = imageFiles().ReplaceAllString(filepath.Base(name), "")
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, name)
	name = strings.TrimLeft(name, "-0123456789") // a name begins with a letter
	return strings.TrimRight(name[:min(len(name), 31)], "-")
}

// own returns the profile of a VM that is run by the name of its image: the file in its
// directory, or what stands for it.
func (c *Call) own(dir vmdir.Dir, image string) (Source, error) {
	s := Source{Path: dir.OwnProfile()}
	err := c.User.Do(func() error { _, err := os.Stat(s.Path); return err })
	if err != nil {
		s.Text, s.Image = Implicit(dir.Name(), image), image
	}
	return s, nil
}

// Implicit is the profile of a VM that is run by the name of an image.
func Implicit(name, image string) string {
	return fmt.Sprintf("name   = %q\nimage  = %q\nmemory = \"2GiB\"\ncpus   = %d\n", name, image, min(2, runtime.NumCPU()))
}

// known refuses the name of an image that no catalog has.
func (c *Call) known(image profiles.Image) error {
	_, err := images.Store{Dir: c.Places.Images, Config: c.Places.Config, User: c.User}.Resolve(image)
	return err
}
