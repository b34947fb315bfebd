package states

import (
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/snapshots"
)

func (s *states) snapshotCommand() *cli.Command {
	return &cli.Command{
		Name: "snapshot", Usage: "save, list, restore or remove snapshots of a VM", ArgsUsage: "save|ls|restore|rm NAME [TAG]",
		Description: "A snapshot is the guest's memory and all its disks at one moment, kept within these: they must be of\nformat qcow2. Of a VM that is off, it is the disks only; NAME may be the path of its profile then. Without\na TAG, save names it after the time.\n\nExample: qnet snapshot save web clean && qnet snapshot restore web clean",
		Flags:       []cli.Flag{call.JSONFlag()},
		Action:      s.snapshot,
	}
}

func (s *states) snapshot(c *cli.Context) error {
	args := c.Args().Slice()
	verbs := map[string]func(*cli.Context, string, string) error{"save": s.take, "ls": s.list, "restore": s.restore, "rm": s.remove}
	if len(args) == 0 || verbs[args[0]] == nil {
		return &call.Usage{Text: "snapshot needs save, ls, restore or rm; see qnet snapshot --help"}
	}
	verb, tag := args[0], ""
	switch {
	case len(args) == 1:
		return &call.Usage{Text: fmt.Sprintf("snapshot %s needs NAME; see qnet snapshot --help", verb)}
	case len(args) == 2 && (verb == "restore" || verb == "rm"):
		return &call.Usage{Text: fmt.Sprintf("snapshot %s needs TAG; qnet snapshot ls %s lists them", verb, args[1])}
	case len(args) > 3 || len(args) > 2 && verb == "ls":
		return &call.Usage{Text: fmt.Sprintf("snapshot %s takes no argument %q; see qnet snapshot --help", verb, args[len(args)-1])}
	case len(args) == 3:
		tag = args[2]
	}
	if tag != "" && !snapshots.ValidTag(tag) {
		return &call.Usage{Text: fmt.Sprintf("snapshot %s: TAG: got %.80q, allowed: %s", verb, tag, snapshots.TagPattern)}
	}
	return verbs[verb](c, args[1], tag)
}

// ask has the VM do something with snapshots; off does it if the VM does not run.
func (s *states) ask(c *cli.Context, name, verb, tag string, result any, off func(snapshots.Off) error) error {
	p, err := s.named(name)
	if err != nil {
		return err
	}
	if p != nil {
		name = p.Name
	}
	err = s.do(c.Context, name, control.Operation{Name: "snapshot " + verb, Args: snapshots.Args{Tag: tag}}, result)
	if errors.Is(err, control.ErrNotRunning) {
		return s.whileOff(name, verb, p, err, off)
	}
	return err
}

// take prints the tag, which the caller may not have chosen.
func (s *states) take(c *cli.Context, name, tag string) error {
	if tag == "" {
		tag = time.Now().Format("2006-01-02T150405")
	}
	err := s.ask(c, name, "save", tag, nil, func(o snapshots.Off) error { return o.Take(c.Context, tag) })
	if err != nil {
		return err
	}
	fmt.Fprintln(s.Stdout, tag)
	return nil
}

func (s *states) restore(c *cli.Context, name, tag string) error {
	return s.ask(c, name, "restore", tag, nil, func(o snapshots.Off) error {
		put, err := o.Restore(c.Context, tag)
		if err == nil && put.Memory > 0 {
			s.Talk("%s: its disks are put back, and its memory is not: it boots as after a power cut. To go on from that moment, restore it again while the VM runs", o.VM)
		}
		return err
	})
}

func (s *states) remove(c *cli.Context, name, tag string) error {
	return s.ask(c, name, "rm", tag, nil, func(o snapshots.Off) error { return o.Remove(c.Context, tag) })
}

func (s *states) list(c *cli.Context, name, _ string) error {
	list := []snapshots.Snapshot{}
	err := s.ask(c, name, "ls", "", &list, func(o snapshots.Off) (err error) {
		list, err = o.List(c.Context)
		return err
	})
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return s.JSON(list)
	}
	return s.Table("TAG MADE MEMORY", func(row call.Row) {
		for _, v := range list {
			row(v.Tag, v.Made.Local().Format(time.DateTime), memory(v.Memory))
		}
	})
}

// memory is the size of a snapshot's memory, which that of a VM that was off has not.
func memory(bytes int64) string {
	if bytes == 0 {
		return call.OrDash("")
	}
	return size(bytes)
}
