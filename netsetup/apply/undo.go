package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// Undo takes the steps back, last first. It tries once more what fails, goes on after every
// error, also when the context ends, and returns all errors.
//
// The kernel takes long to delete a link. So Undo only sets a link down in the turn of its
// step, so that nothing passes any more. In the turn of the first step that made a link, one
// request deletes all of them, while Undo takes back the Concurrent steps.
func Undo(ctx context.Context, k step.Kernel, steps []step.Step) error {
	u := undoing{ctx: context.WithoutCancel(ctx), k: k}
	first := slices.IndexFunc(steps, makesLink)
	for i, s := range slices.Backward(steps) {
		_, concurrent := s.(step.Concurrent)
		switch {
		case makesLink(s):
			u.try(s, func() error { return u.setDown(s) })
		case concurrent && i > first && first >= 0:
			u.late = append(u.late, s)
		default:
			u.try(s, func() error { return s.Undo(u.ctx, k) })
		}
		if i == first {
			u.deleteLinks(s)
		}
	}
	return errors.Join(u.errs...)
}

// undoing is one call of Undo.
type undoing struct {
	ctx   context.Context //nolint:containedctx // of this one call
	k     step.Kernel
	links []string    // set down, to be deleted
	late  []step.Step // Concurrent, to be undone while links are deleted
	errs  []error
}

// try calls f, which undoes the step, once more if it fails.
func (u *undoing) try(s step.Step, f func() error) {
	var err error
	for range 2 {
		if err = f(); err == nil {
			err = failpoint.Hit("undid " + step.TypeName(s))
		}
		if err == nil {
			return
		}
	}
	u.fail(s, err)
}

func (u *undoing) fail(s step.Step, err error) {
	u.errs = append(u.errs, fmt.Errorf("undo %q: %w", firstLine(s.String()), err))
}

// setDown sets down the link that the step made, if it is there and bears our mark.
func (u *undoing) setDown(s step.Step) error {
	name, err := s.(step.LinkMaker).Made(u.ctx, u.k)
	if err != nil || name == "" || slices.Contains(u.links, name) {
		return err
	}
	err = u.k.SetUp(u.ctx, name, false)
	if err == nil {
		u.links = append(u.links, name)
	}
	return err
}

// deleteLinks deletes the links and undoes the late steps meanwhile. first is the step whose
// turn it is.
func (u *undoing) deleteLinks(first step.Step) {
	deleted := make(chan error, 1)
	go func() { deleted <- u.k.DelLinks(u.ctx, u.links) }()
	for _, s := range u.late {
		u.try(s, func() error { return s.Undo(u.ctx, u.k) })
	}
	err := <-deleted
	if err != nil {
		err = u.k.DelLinks(u.ctx, u.links)
	}
	if err != nil {
		u.fail(first, err)
	}
}

// makesLink reports whether the step makes a link.
func makesLink(s step.Step) bool {
	_, ok := s.(step.LinkMaker)
	return ok
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// UndoScript joins the commands that undo the steps, last step first.
func UndoScript(steps []step.Step) string {
	var commands []string
	for _, s := range slices.Backward(steps) {
		if u := s.UndoString(); u != "" {
			commands = append(commands, u)
		}
	}
	return strings.Join(commands, "\n")
}
