// Package sandbox confines a QEMU before it starts: a guest that has taken QEMU over then
// holds the files that QEMU was given, and nothing else of the host.
//
// [Decide] chooses the layers, by what the machine needs and what the kernel has.
// [Layers.Confine] puts those that belong to a thread upon the calling one: a filter of
// system calls (seccomp(2)) and Landlock (landlock(7)). [Layers.Cloneflags] are the
// namespaces of the child, and [Layers.Limit] bounds it once it runs. Others belong to
// those who start QEMU: another user, no capability, no descriptor but the machine's.
// QEMU adds a filter of its own (-sandbox).
package sandbox

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/confine"
	"github.com/qnet-vm/qnet/qemu/program"
)

// Mode says what to do about a layer that the kernel, or the caller's rights, lack.
type Mode string

// The modes, as --sandbox names them.
const (
	Auto     Mode = "auto"     // start without it, and say so; "" is Auto
	Required Mode = "required" // do not start
	Off      Mode = "off"      // no layer but the user, no capabilities and QEMU's own filter
)

// Modes lists them.
func Modes() []Mode { return []Mode{Auto, Required, Off} }

// Need is what a machine needs of the host besides its open files.
type Need struct {
	Mode   Mode
	Binary string     // QEMU's path
	Files  []*os.File // that QEMU opens once more, by their path
	KVM    string     // path of the device; "" under TCG
	// Network says that QEMU itself makes connections, for a NIC in mode "user".
	Network bool
	// Extra says that there are QEMU arguments of the user's own: they may name any file and
	// any address, and QEMU reaches what its user reaches.
	Extra bool
}

// Layer is a part of the confinement.
type Layer string

// The layers.
const (
	User       Layer = "user"       // an unprivileged user, without capabilities
	Filter     Layer = "filter"     // of system calls: no sockets, no change of a tap, no look at other processes
	Files      Layer = "files"      // no file but QEMU's own program, its libraries and firmware
	Namespaces Layer = "namespaces" // none of the host's links, processes and shared memory
	Limits     Layer = "limits"     // no core dumps, a bounded number of open files
)

// Report says what confines a QEMU.
type Report struct {
	UID      uint32    `json:"uid"` // whom it runs as
	Mode     Mode      `json:"mode"`
	Landlock int       `json:"landlock,omitempty"` // version of the files layer; 0 without one
	Layers   []Layer   `json:"layers"`             // in force
	Missing  []Missing `json:"missing,omitempty"`
}

// Missing is a layer that is not in force, and why.
type Missing struct {
	Layer Layer  `json:"layer"`
	Why   string `json:"why"`
}

// Layers are the layers for one start.
type Layers struct {
	need   Need
	clone  uintptr
	files  []confine.Rule
	report Report
}

// Decide chooses the layers of a QEMU that runs as the user. With Required, a layer that
// the kernel or the caller lacks is a *program.Lack. It reads the
// binary's head and the calling thread's capabilities.
func Decide(n Need, uid uint32) (*Layers, error) {
	if n.Mode == "" {
		n.Mode = Auto
	}
	l := &Layers{need: n, report: Report{UID: uid, Mode: n.Mode}}
	l.user(uid)
	if n.Mode == Off {
		for _, layer := range []Layer{Filter, Files, Namespaces, Limits} {
			l.lack(layer, "--sandbox=off")
		}
		return l, nil
	}
	l.add(Filter)
	l.decideFiles()
	l.decideNamespaces()
	l.add(Limits)
	if n.Mode == Required && len(l.report.Missing) > 0 {
		return nil, l.refusal()
	}
	return l, nil
}

func (l *Layers) add(layer Layer) { l.report.Layers = append(l.report.Layers, layer) }

func (l *Layers) lack(layer Layer, format string, args ...any) {
	l.report.Missing = append(l.report.Missing, Missing{Layer: layer, Why: fmt.Sprintf(format, args...)})
}

func (l *Layers) user(uid uint32) {
	if uid == 0 {
		l.lack(User, "QEMU runs as root")
		return
	}
	l.add(User)
}

func (l *Layers) decideFiles() {
	loader, err := program.Loader(l.need.Binary)
	switch version := confine.Landlock(); {
	case version == 0:
		l.lack(Files, "the kernel has no Landlock: QEMU opens what its user can open")
	case l.need.Extra:
		l.lack(Files, "the QEMU arguments behind -- may name any file")
	case err != nil:
		l.lack(Files, "%s is no program that the kernel loads by itself (%v): it may need any file", l.need.Binary, err)
	default:
		l.files = l.need.rules(loader)
		l.report.Landlock = version
		l.add(Files)
	}
}

// decideNamespaces takes all that QEMU does without. A new PID namespace makes QEMU the
// first process of it, which is why an abort of QEMU ends it by SIGSEGV instead of
// SIGABRT (pid_namespaces(7)).
func (l *Layers) decideNamespaces() {
	if !canNamespace() {
		l.lack(Namespaces, "they take CAP_SYS_ADMIN, which qnet has as root")
		return
	}
	l.clone = unix.CLONE_NEWIPC | unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS
	if !l.need.Network && !l.need.Extra {
		l.clone |= unix.CLONE_NEWNET
	}
	l.add(Namespaces)
}

// WithoutNamespaces says that the kernel refused them, with the cause. It returns a
// *program.Lack if they are required.
func (l *Layers) WithoutNamespaces(cause error) error {
	l.clone = 0
	l.report.Layers = slices.DeleteFunc(l.report.Layers, func(layer Layer) bool { return layer == Namespaces })
	l.lack(Namespaces, "the kernel refuses them: %v", cause)
	if l.need.Mode == Required {
		return l.refusal()
	}
	return nil
}

func (l *Layers) refusal() error { return Refusal("QEMU", l.report.Lacks(), "qnet ps --security") }

// Refusal is the *program.Lack of Required: what cannot be confined, the layers that are missing,
// and the command that shows them.
func Refusal(what, lacks, shows string) error {
	return &program.Lack{
		What:   "--sandbox=required, and " + what + " cannot be confined in full: " + lacks,
		Remedy: "--sandbox=auto starts without what is missing, and " + shows + " shows it",
	}
}

// Confine takes rights from the calling thread, and so from the children that it starts. The
// thread must be locked and never be used again (package confine). It has no_new_privs.
func (l *Layers) Confine() error {
	if l.need.Mode == Off {
		return nil
	}
	if l.files != nil {
		if err := confine.Files(l.files, l.need.Network); err != nil {
			return err
		}
	}
	return l.need.filter().Install()
}

// Cloneflags are the namespaces of the child (clone(2)).
func (l *Layers) Cloneflags() uintptr { return l.clone }

// maxFiles is how many files QEMU may have open. A machine with 8 NICs of 8 queues needs
// some 300.
const maxFiles = 4096

// Bounds are what QEMU may use.
func (l *Layers) Bounds() confine.Bounds {
	if l.need.Mode == Off {
		return nil
	}
	return confine.Bounds{unix.RLIMIT_CORE: 0, unix.RLIMIT_NOFILE: maxFiles}
}

// Report says what is in force.
func (l *Layers) Report() Report { return l.report }

// Lacks words the missing layers, "" without one.
func (r Report) Lacks() string {
	words := make([]string, len(r.Missing))
	for i, m := range r.Missing {
		words[i] = fmt.Sprintf("%s: %s", m.Layer, m.Why)
	}
	return strings.Join(words, "; ")
}

// String lists the layers in force, such as "user 1000, filter, files (Landlock 7)".
func (r Report) String() string {
	words := make([]string, len(r.Layers))
	for i, layer := range r.Layers {
		switch words[i] = string(layer); layer {
		case User:
			words[i] += fmt.Sprintf(" %d", r.UID)
		case Files:
			words[i] += fmt.Sprintf(" (Landlock %d)", r.Landlock)
		}
	}
	return strings.Join(words, ", ")
}

// Comment says what is in force, and what is missing and why, as a comment of a shell. A plan
// has it, and `qnet run -v` prints it.
func (r Report) Comment() string {
	text := "# QEMU is confined: " + r.String()
	if lacks := r.Lacks(); lacks != "" {
		text += "; missing: " + lacks
	}
	return text
}

// canNamespace reports whether the thread may make namespaces without one of users.
func canNamespace() bool {
	capabilities, err := confine.Effective()
	return err == nil && capabilities&(1<<unix.CAP_SYS_ADMIN) != 0
}
