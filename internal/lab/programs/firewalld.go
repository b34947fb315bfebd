package programs

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/profiles"
)

// Firewalld is the real firewalld with its own system bus and /etc/firewalld. It has the
// zones that it ships, "public" is the default. Web servers listen on ports 8080 and 8081
// of the host. Port 8080 is open; firewalld rejects everything else from outside, and
// forwards nothing.
func Firewalld() *FirewalldProgram {
	f := &FirewalldProgram{}
	f.Program = Program{
		Name:    "firewalld",
		Needs:   []lab.Need{lab.Root, lab.Program("dbus-daemon"), lab.Program("firewalld"), lab.Program("nft")},
		Start:   f.start,
		Reload:  func(t testing.TB) { lab.Sh(t, "firewall-cmd --reload") },
		Works:   f.works,
		State:   f.state,
		Version: func() string { return version("firewalld", "firewall-offline-cmd --version") },
		Refuses: func(profiles.Mode) string { return "" },
	}
	return f
}

// FirewalldProgram is a firewalld that a test can stop.
type FirewalldProgram struct {
	Program
	Stop func() // does what systemctl stop does
}

// version is a name with the version that a command prints.
func version(name, command string) string {
	out, _ := lab.Try(command + " 2> /dev/null")
	return name + " " + strings.TrimSpace(out)
}

func (f *FirewalldProgram) start(t testing.TB) {
	t.Helper()
	lab.Bus(t)
	lab.MountEmpty(t, "/etc/firewalld")
	if err := os.WriteFile("/etc/firewalld/firewalld.conf", []byte("DefaultZone=public\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	lab.Sh(t, "firewall-offline-cmd --add-port=8080/tcp")
	for _, port := range []string{"8080", "8081"} {
		lab.Daemon(t, "busybox", "httpd", "-f", "-p", port, "-h", t.TempDir())
	}
	f.Run(t)
}

// Run does what systemctl start does.
func (f *FirewalldProgram) Run(t testing.TB) {
	t.Helper()
	f.Stop = lab.Daemon(t, "firewalld", "--nofork", "--nopid")
	lab.Eventually(t, 30*time.Second, "firewalld", func() bool {
		_, err := lab.Try("firewall-cmd --state")
		return err == nil
	})
}

// works checks that port 8080 is open and another is not, and that firewalld accepts its
// files.
func (f *FirewalldProgram) works(testing.TB) error {
	if out, err := lab.Try("firewall-cmd --check-config"); err != nil {
		return fmt.Errorf("firewalld's files: %w: %s", err, out)
	}
	if !lab.Fetches("inet", "192.0.2.10:8080") {
		return errors.New("firewalld: port 8080 of the host is open, and does not answer")
	}
	if lab.Fetches("inet", "192.0.2.10:8081") {
		return errors.New("firewalld: port 8081 of the host is closed, and answers")
	}
	return nil
}

// state is what firewalld says about its zones, with its files and its rules.
func (f *FirewalldProgram) state(t testing.TB) string {
	t.Helper()
	return lab.Sh(t, `firewall-cmd --list-all-zones; firewall-cmd --list-all-policies
cd /etc/firewalld; find . -type f ! -name '*.old' | sort | xargs sha256sum`) +
		reachable(lab.Sh(t, "nft -s list table inet firewalld"))
}

// reachable is a listed table without the chains to which nothing leads. firewalld keeps
// the empty chains of a zone that it once used until it reloads.
func reachable(table string) string {
	chains := strings.Split(table, "\n\n")
	for {
		var led []string
		for _, c := range chains {
			_, text, _ := strings.Cut(c, "\tchain ")
			name, _, isChain := strings.Cut(text, " {")
			c = strings.TrimSuffix(c, "\n}\n") // the end of the table
			if !isChain || strings.Contains(text, " hook ") || leadsTo(chains, name) {
				led = append(led, c)
			}
		}
		if len(led) == len(chains) {
			return strings.Join(led, "\n\n")
		}
		chains = led
	}
}

func leadsTo(chains []string, name string) bool {
	all := strings.Join(chains, "\n") + "\n"
	return strings.Contains(all, "jump "+name+"\n") || strings.Contains(all, "goto "+name+"\n")
}
