package rundir

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/internal/perm"
)

// What may be in a run directory, and in a state directory: a directory with anything else
// in it is not qnet's own, though it was given as one.
var (
	runNames   = []string{"locks", "vms", "networks"}
	stateNames = []string{"salt", "subnets", "leases", "logs", "run", "known_hosts", "known_hosts.d", "vms", "images", "config"}
)

// MakeState makes a directory in the state directory; sub "" is the state directory
// itself. It gives both the permissions that they need.
func MakeState(stateDir, sub string) error {
	dir := filepath.Join(stateDir, sub)
	if err := perm.MkdirAll(dir, perm.Dir()); err != nil {
		return err
	}
	if err := mendTop(stateDir, stateNames); err != nil || sub == "" {
		return err
	}
	_, err := perm.Mend(dir, perm.Dir())
	return err
}

// mendTop puts a run or state directory right, if it holds nothing but qnet's files: a user
// may have named a directory with others in it, whose permissions are the user's business.
func mendTop(dir string, names []string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil //nolint:nilerr // whoever cannot list it need not repair it
	}
	for _, e := range entries {
		name, _, _ := strings.Cut(e.Name(), ".") // salt.123 while the salt is made
		if !slices.Contains(names, name) {
			return nil
		}
	}
	_, err = perm.Mend(dir, perm.Dir())
	return err
}

// mendRun puts the directories of a run directory right. If one of them was wrong, an older
// qnet made them by its caller's umask, and those of its VMs and networks are wrong, too.
func mendRun(runDir string) error {
	if err := mendTop(runDir, runNames); err != nil {
		return err
	}
	for _, name := range runNames {
		dir := filepath.Join(runDir, name)
		mended, err := perm.Mend(dir, perm.Dir())
		if err != nil {
			return err
		}
		if mended && name != "locks" {
			if err := mendEach(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// mendEach puts the directories of VMs or networks right, and the networks' journals.
func mendEach(dir string) error {
	list, err := names(dir)
	if err != nil {
		return err
	}
	for _, name := range list {
		one := filepath.Join(dir, name)
		if _, err := perm.Mend(one, perm.Dir()); err != nil {
			return err
		}
		if _, err := perm.Mend(filepath.Join(one, "journal.json"), perm.File()); err != nil {
			return err
		}
	}
	return nil
}
