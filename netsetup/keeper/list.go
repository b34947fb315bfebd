package keeper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/qnet-vm/qnet/internal/rundir"
)

// queryTimeout bounds the wait for a keeper's answer to OpInfo.
const queryTimeout = 5 * time.Second

// List asks the keepers of a run directory for their networks.
func List(ctx context.Context, runDir string) ([]Info, error) {
	list, err := rundir.Networks(runDir)
	if err != nil {
		return nil, err
	}
	var infos []Info
	for _, n := range list {
		info, err := query(ctx, n)
		if noKeeper(err) || errors.Is(err, errGone) {
			continue // left behind, or just leaving
		}
		if err != nil {
			return nil, fmt.Errorf("list network %q: %w", n.Name, err)
		}
		infos = append(infos, *info)
	}
	return infos, nil
}

func query(ctx context.Context, n rundir.Network) (*Info, error) {
	conn, err := dial(n)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	conn.SetDeadline(time.Now().Add(queryTimeout))
	var rep Reply
	if _, err := exchange(conn, Request{Versions: Speaks, Op: OpInfo}, &rep); err != nil {
		return nil, err
	}
	if rep.Error != nil {
		return nil, rep.Error
	}
	if rep.Info == nil {
		return nil, errors.New("the keeper does not answer what was asked")
	}
	return rep.Info, nil
}

// Left lists the networks below a run directory whose keeper is dead: what Collect
// would undo.
func Left(runDir string) ([]string, error) {
	list, err := rundir.Networks(runDir)
	if err != nil {
		return nil, err
	}
	var left []string
	for _, n := range list {
		c, err := dial(n)
		switch {
		case err == nil:
			c.Close()
		case noKeeper(err):
			left = append(left, "network "+n.Name)
		default:
			return left, err
		}
	}
	return left, nil
}
