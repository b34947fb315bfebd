package keeper

import "github.com/qnet-vm/qnet/internal/rundir"

// paths are a network's files below the run directory.
type paths struct{ runDir, network string }

func (p paths) place() rundir.Network { return rundir.Network{RunDir: p.runDir, Name: p.network} }

func (p paths) dir() string        { return p.place().Dir() }
func (p paths) journal() string    { return p.place().Journal() }
func (p paths) socket() string     { return p.place().Socket() }
func (p paths) startLock() string  { return p.place().StartLock() }
func (p paths) keeperLock() string { return p.place().KeeperLock() }
func (p paths) planLock() string   { return p.place().PlanLock() }
func (p paths) remove() error      { return p.place().Remove() }
func (p paths) make() error        { return p.place().Make() }

// all lists the networks of a run directory, running or left behind.
func all(runDir string) ([]paths, error) {
	networks, err := rundir.Networks(runDir)
	var list []paths
	for _, n := range networks {
		list = append(list, paths{n.RunDir, n.Name})
	}
	return list, err
}
