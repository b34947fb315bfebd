package step

import (
	"fmt"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/host"
)

// Step is one change to the host.
type Step interface {
	// Do makes the change. It refuses an object of the name that is not ours.
	Do(k Kernel) error
	// Undo takes it back. What is gone already is no error; what does not bear
	// our mark, or no longer holds the value we wrote, is left alone.
	Undo(k Kernel) error
	// Holds reports whether the host still is as Do left it.
	Holds(k Kernel) (bool, error)
	// String is the change as ip(8), nft(8) and sysctl(8) commands, one a line.
	String() string
	// UndoString is the like for Undo, "" where another step's undo does it.
	UndoString() string
}

// takenElsewhere is ErrNotOurs of a link that does bear the mark.
type takenElsewhere struct{ kind string }

// Error says who has it.
func (e *takenElsewhere) Error() string {
	return fmt.Sprintf("a %s of that name and mark: VMs of another run directory use it, or left it (qnet --run-dir DIR gc)", e.kind)
}

// Is makes it ErrNotOurs.
func (e *takenElsewhere) Is(target error) bool { return target == host.ErrNotOurs }

// taken is the error about a link that has the name that one of ours would have.
func taken(l host.Link, alias string) error {
	if l.Alias == alias {
		return &takenElsewhere{l.Kind}
	}
	return fmt.Errorf("a %s of that name, alias %q: %w", l.Kind, l.Alias, host.ErrNotOurs)
}

func delMade(k Kernel, s linkMaker) error {
	name, err := s.made(k)
	if err != nil || name == "" {
		return err
	}
	return k.DelLinks([]string{name})
}

// Script joins the commands of steps, in order.
func Script(steps []Step) string {
	var lines []string
	for _, s := range steps {
		lines = append(lines, s.String())
	}
	return strings.Join(lines, "\n")
}

// UndoScript joins the commands that undo the steps, last step first.
func UndoScript(steps []Step) string {
	var lines []string
	for i := len(steps) - 1; i >= 0; i-- {
		if u := steps[i].UndoString(); u != "" {
			lines = append(lines, u)
		}
	}
	return strings.Join(lines, "\n")
}

func marked(k Kernel, name, alias string) (bool, error) {
	l, ok, err := k.Link(name)
	return ok && l.Alias == alias, err
}
