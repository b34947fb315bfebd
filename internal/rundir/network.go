package rundir

import "path/filepath"

// Network names a network of a run directory.
type Network struct{ RunDir, Name string }

func networksDir(runDir string) string { return filepath.Join(runDir, "networks") }

// Networks lists the networks of a run directory: those whose keeper lives, and those
// whose keeper died without undoing them.
func Networks(runDir string) ([]Network, error) {
	list, err := names(networksDir(runDir))
	var networks []Network
	for _, name := range list {
		networks = append(networks, Network{runDir, name})
	}
	return networks, err
}

// Dir returns the network's directory.
func (n Network) Dir() string { return filepath.Join(networksDir(n.RunDir), n.Name) }

// Journal returns the file that tells what the keeper changed on the host.
func (n Network) Journal() string { return filepath.Join(n.Dir(), "journal.json") }

// Socket returns the keeper's socket.
func (n Network) Socket() string { return filepath.Join(n.Dir(), "keeper.sock") }

// StartLock returns the lock that a supervisor holds while it starts a keeper, so
// that two supervisors do not start two.
func (n Network) StartLock() string { return filepath.Join(Locks(n.RunDir), "start-"+n.Name) }

// KeeperLock returns the file that the keeper keeps locked as long as it lives.
func (n Network) KeeperLock() string { return filepath.Join(Locks(n.RunDir), "net-"+n.Name) }

// PlanLock returns the plan lock of the network's run directory.
func (n Network) PlanLock() string { return PlanLock(n.RunDir) }

// Make makes the network's directory. The error may wrap ErrPathTooLong or ErrBadName.
func (n Network) Make() error {
	if err := checkSocket(n.Socket()); err != nil {
		return err
	}
	return mkdir(networksDir(n.RunDir), n.Name, n.RunDir)
}

// Remove removes the network's directory, and those above it that are empty then. The error
// may wrap ErrBadName.
func (n Network) Remove() error { return remove(networksDir(n.RunDir), n.Name, n.RunDir) }
