package keeper

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// paths are a network's files below the run directory.
type paths struct{ runDir, network string }

func (p paths) networks() string   { return filepath.Join(p.runDir, "networks") }
func (p paths) dir() string        { return filepath.Join(p.networks(), p.network) }
func (p paths) journal() string    { return filepath.Join(p.dir(), "journal.json") }
func (p paths) socket() string     { return filepath.Join(p.dir(), "keeper.sock") }
func (p paths) startLock() string  { return filepath.Join(p.runDir, "locks", "start-"+p.network) }
func (p paths) keeperLock() string { return filepath.Join(p.runDir, "locks", "net-"+p.network) }
func (p paths) planLock() string   { return filepath.Join(p.runDir, "locks", "plan") }

// remove takes the network's files away, and the directories that are empty then.
func (p paths) remove() error {
	err := os.RemoveAll(p.dir())
	os.Remove(p.networks()) // fails, as it should, while another network is there
	os.Remove(p.runDir)
	return err
}

// make makes the network's directory, which a leaving network may remove meanwhile.
func (p paths) make() error {
	for {
		err := os.MkdirAll(p.dir(), 0o755)
		if err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
}

// all lists the networks of a run directory, running or left behind.
func all(runDir string) ([]paths, error) {
	entries, err := os.ReadDir(paths{runDir: runDir}.networks())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var list []paths
	for _, e := range entries {
		list = append(list, paths{runDir, e.Name()})
	}
	return list, err
}
