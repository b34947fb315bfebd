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

// Firewalld is the real firewalld with the zones it ships and "public" the
// default, on a system bus and with an /etc/firewalld of its own. Web servers are
// on the host's ports 8080, which is open, and 8081; whatever else comes from outside is rejected, and nothing is
// forwarded.
func Firewalld() *FirewalldProgram {
	f := &FirewalldProgram{}
	f.Neighbour = Neighbour{
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

// FirewalldProgram is a firewalld that can be stopped, too.
type FirewalldProgram struct {
	Neighbour
	Stop func() // what systemctl stop does
}

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

// Run is what systemctl start does.
func (f *FirewalldProgram) Run(t testing.TB) {
	t.Helper()
	f.Stop = lab.Daemon(t, "firewalld", "--nofork", "--nopid")
	lab.Eventually(t, 30*time.Second, "firewalld", func() bool {
		_, err := lab.Try("firewall-cmd --state")
		return err == nil
	})
}

// works: the port it has open is, and another is not, and it is content with its files.
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

// state is what it says of its zones, its files, and its rules.
func (f *FirewalldProgram) state(t testing.TB) string {
	t.Helper()
	return lab.Sh(t, `firewall-cmd --list-all-zones; firewall-cmd --list-all-policies
cd /etc/firewalld; find . -type f ! -name '*.old' | sort | xargs sha256sum`) +
		reachable(lab.Sh(t, "nft -s list table inet firewalld"))
}

// reachable leaves out the chains of a listed table that nothing leads to:
// firewalld keeps those of a zone it once used, empty, until it reloads.
func reachable(table string) string {
	chains := strings.Split(table, "\n\n")
	for {
		var led []string
		for _, c := range chains {
			_, text, _ := strings.Cut(c, "\tchain ")
			name, _, isChain := strings.Cut(text, " {")
			c = strings.TrimSuffix(c, "\n}\n") // the table's
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
