package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/qnet-vm/qnet/internal/lab/guest"
)

// bootTime bounds a guest's boot under TCG on a busy machine; 4 s is usual.
const bootTime = 60 * time.Second

// vm is a profile's beginning: a real guest with the kernel arguments.
func vm(l *testHost, name, args string) string {
	l.Helper()
	return vmIn(l, l.dir, name, args)
}

// guestIn puts the guest's files into a profile's folder.
func guestIn(l *testHost, folder string) (kernel, initrd string) {
	l.Helper()
	kernel, initrd = guest.Files(l)
	return put(l, kernel, folder), put(l, initrd, folder)
}

// put puts a file into a profile's folder, and returns its path there.
func put(l *testHost, file, folder string) string {
	l.Helper()
	path, err := guest.Put(file, folder)
	if err != nil {
		l.Fatal(err)
	}
	return path
}

// vmIn is vm for a profile in that folder.
func vmIn(l *testHost, folder, name, args string) string {
	l.Helper()
	kernel, initrd := guestIn(l, folder)
	return fmt.Sprintf(`name = %q
memory = "192MiB"
accel = "tcg"

[boot]
kernel = %q
initrd = %q
cmdline = "console=ttyS0 quiet %s"

`, name, kernel, initrd, args)
}

// console is a guest's shell.
type console struct {
	l     *testHost
	name  string
	keys  io.WriteCloser
	view  *process
	count int
}

// boot runs the profile in the background. Its kernel arguments must hold
// qnet.shell.
func (l *testHost) boot(name, profile string) *console {
	l.Helper()
	l.must("run", "-d", l.profile(name, profile))
	return l.shell(name)
}

// shell connects to a guest's shell by `qnet console`.
func (l *testHost) shell(name string) *console {
	l.Helper()
	c := &console{l: l, name: name, view: l.command("console", name)}
	var err error
	if c.keys, err = c.view.StdinPipe(); err != nil {
		l.Fatal(err)
	}
	c.view.begin()
	log := filepath.Join(l.dir, "state/logs", name, "console.log")
	for end := time.Now().Add(bootTime); ; time.Sleep(50 * time.Millisecond) {
		b, _ := os.ReadFile(log)
		if strings.Contains(string(b), "poweroff -f ends it") {
			break
		}
		if time.Now().After(end) {
			l.Fatalf("guest %s does not boot:\n%s", name, b)
		}
	}
	c.must("stty -echo; PS1=")
	return c
}

// sh runs a command in the guest.
func (c *console) sh(script string) (out string, ok bool) {
	c.l.Helper()
	c.count++
	before := len(c.view.out.String())
	// The quotes keep an echo of the command from looking like its answer.
	fmt.Fprintf(c.keys, "%s\necho QNET-\"RC%d\" $?\n", script, c.count)
	answer := regexp.MustCompile(fmt.Sprintf(`(?s)(.*)QNET-RC%d (\d+)`, c.count))
	for end := time.Now().Add(bootTime); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if m := answer.FindStringSubmatch(c.view.out.String()[before:]); m != nil {
			return m[1], m[2] == "0"
		}
	}
	c.l.Fatalf("guest %s: no answer to %q:\n%s", c.name, script, c.view.out.String())
	return "", false
}

// must runs a command that succeeds in the guest.
func (c *console) must(script string) string {
	c.l.Helper()
	out, ok := c.sh(script)
	if !ok {
		c.l.Errorf("guest %s: %s: failed:\n%s", c.name, script, out)
	}
	return out
}

// fails runs a command that must fail in the guest.
func (c *console) fails(why, script string) {
	c.l.Helper()
	if out, ok := c.sh(script); ok {
		c.l.Errorf("guest %s: %s: %s succeeded:\n%s", c.name, why, script, out)
	}
}
