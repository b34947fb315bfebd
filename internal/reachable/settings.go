package reachable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/qnet-vm/qnet/profiles"
)

// settingsFile is the file, in the directory of the user's settings, with what all profiles
// may name: a path a line. Lines that are empty or begin with "#" say nothing.
const settingsFile = "allow-paths"

// maxSettings bounds that file, in bytes.
const maxSettings = 64 << 10

// settings returns what all profiles of the user may name. The error is profiles.Errors for
// what is wrong in the file.
func settings(config string) ([]string, error) {
	if config == "" {
		return nil, nil
	}
	path := filepath.Join(config, settingsFile)
	f, err := OpenRegular(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) { // another user's, such as root's: it allows this one nothing
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what profiles may name: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSettings+1))
	if err != nil {
		return nil, fmt.Errorf("read what profiles may name: %w", err)
	}
	if len(text) > maxSettings {
		return nil, profiles.Errors{{File: path, Msg: fmt.Sprintf("got more than %d bytes, allowed: less", maxSettings)}}
	}
	return parse(path, string(text))
}

func parse(path, text string) (list []string, err error) {
	var bad profiles.Errors
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case !filepath.IsAbs(line):
			bad = append(bad, &profiles.Error{File: path, Line: i + 1, Msg: fmt.Sprintf("got %q, allowed: a whole path, such as /srv/images; ~ is not expanded", line)})
		default:
			list = append(list, line)
		}
	}
	if len(bad) > 0 {
		return nil, bad
	}
	return list, nil
}
