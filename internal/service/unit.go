// Package service makes systemd services of VMs, and speaks to the manager that started one.
//
// A Unit is a unit file, one for each VM (systemd.service(5)). A Manager is systemd, the
// system's or a user's, by systemctl(1): that works where no message bus runs, and says what
// users know. A Socket is what a service tells its manager (sd_notify(3)).
package service

import (
	"fmt"
	"strings"

	"github.com/qnet-vm/qnet/internal/asuser"
)

// Unit is the service of a VM.
type Unit struct {
	VM   string
	Exe  string   // qnet's absolute path
	Args []string // of qnet: such as run --service, and the profile's absolute path
	User bool     // of a user's manager; else of the system's
	// Behind is the user behind sudo who has the VM; nil without one.
	Behind *asuser.User
}

// UnitName is the name of a VM's unit.
func UnitName(vm string) string { return "qnet-" + vm + ".service" }

// mark is the first line of each file that is a Unit.
const mark = "# Made by qnet service install, and removed by qnet service remove."

// Made reports whether the text of a unit file is a Unit's.
func Made(text string) bool { return strings.HasPrefix(text, mark+"\n") }

// Text returns the unit file.
//
// TimeoutStopSec is more than the way down takes at most: 30 s for the guest, 10 s for QEMU to
// quit, 10 s after SIGKILL, 30 s to undo. WatchdogSec is twice as often as the service tells
// that QEMU answers; SIGABRT, the default, makes a Go program exit with 2. Exit codes 2 and 3, a
// bad profile and a host that lacks something, will not get better by another start.
func (u Unit) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n[Unit]\nDescription=VM %s (qnet)\nDocumentation=man:qnet(1)\n", mark, u.VM)
	target := "default.target"
	if !u.User {
		target = "multi-user.target"
		b.WriteString("Wants=network-online.target\nAfter=network-online.target\n")
	}
	b.WriteString("StartLimitIntervalSec=5min\nStartLimitBurst=5\n\n[Service]\nType=notify\nNotifyAccess=main\n")
	if u.Behind != nil {
		fmt.Fprintf(&b, "Environment=SUDO_UID=%d SUDO_GID=%d\n", u.Behind.UID, u.Behind.GID)
	}
	words := []string{Quote(u.Exe)}
	for _, arg := range u.Args {
		words = append(words, Quote(arg))
	}
	fmt.Fprintf(&b, "ExecStart=%s\n", strings.Join(words, " "))
	fmt.Fprintf(&b, `KillMode=mixed
TimeoutStartSec=2min
TimeoutStopSec=2min
WatchdogSec=1min
WatchdogSignal=SIGKILL
Restart=on-failure
RestartSec=2
RestartPreventExitStatus=2 3
SyslogIdentifier=qnet-%s
OOMPolicy=stop

[Install]
WantedBy=%s
`, u.VM, target)
	return b.String()
}

// Quote writes an argument of a command line in a unit file: systemd takes "%" and "$" for
// itself, and words apart at blanks (systemd.service(5), "Command lines").
func Quote(arg string) string {
	arg = strings.NewReplacer("%", "%%", "$", "$$").Replace(arg)
	if arg != "" && !strings.ContainsFunc(arg, needsQuotes) {
		return arg
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(arg) {
		switch c := arg[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// needsQuotes reports whether a letter stands for more than itself outside of quotes. A lone ";"
// parts commands.
func needsQuotes(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`"'\;`, r) }
