package profiles

import (
	"path/filepath"
	"strings"

	"github.com/qnet-vm/qnet/profiles/strict"
)

// path returns a file that the profile names, as an absolute path: one that is relative
// starts from dir, the profile's folder, and ~/ is the user's home. ".." takes the element
// before it away, also where that is a link: so what is looked at and what is made is one place. What a shell or
// another program would expand besides is refused: the file would be missing by a name
// that the user does not see.
func (d *decoder) path(key, dir, path string) string {
	home, rest := strings.HasPrefix(path, "~"), strings.TrimLeft(path, "~")
	switch {
	case path == "":
		return ""
	case home && path[1:] != "" && (path[1] != '/'):
		d.Fail(key, "got %s, allowed: a path; ~USER is not expanded, only ~/, your own home; a file of that name is ./%s", strict.Quote(path), path)
	case home && d.home == "":
		d.Fail(key, "got %s, but your home is not known: HOME is not set, and you have no entry in passwd(5); write the whole path", strict.Quote(path))
	case home:
		return filepath.Join(d.home, rest)
	case strings.HasPrefix(path, "$"):
		d.Fail(key, "got %s, allowed: a path; variables are not expanded, write ~/ for your home; a file of that name is ./%s", strict.Quote(path), path)
	case strings.Contains(path, "://"):
		d.Fail(key, "got %s, allowed: a file; a URL is not fetched, download it first", strict.Quote(path))
	case filepath.IsAbs(path):
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}
