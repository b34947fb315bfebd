package convert

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/qnet-vm/qnet/internal/jail"
	"github.com/qnet-vm/qnet/qemu/program"
	"github.com/qnet-vm/qnet/qemu/tail"
)

// Limits of qemu-img. A real image of 10 GiB takes 300 MiB and a minute.
const (
	imgMemory = 4 << 30
	imgTime   = time.Hour
)

// Find returns the path of qemu-img. search is the value of PATH, does what qemu-img is for.
// The error is a *program.Lack.
func Find(search, does string) (string, error) {
	if path, ok := jail.Find("qemu-img", search); ok {
		return path, nil
	}
	return "", &program.Lack{
		What:   "the program qemu-img is not installed, which " + does,
		Remedy: "install it: Debian, Ubuntu: apt install qemu-utils; Fedora: dnf install qemu-img; Arch: pacman -S qemu-img",
	}
}

// Conversion is a call of qemu-img.
type Conversion struct {
	In, Out    *os.File            // Out is empty and its user's
	Format     string              // of In
	Search     string              // the value of PATH
	Credential *syscall.Credential // that qemu-img runs as; nil for the caller's own, which must not be root
	Budget     int64               // bytes that Out may grow to
	Report     func(percent float64)
}

// Run writes In as a qcow2 image to Out.
func (c Conversion) Run(ctx context.Context) error {
	path, err := Find(c.Search, "converts images that are not qcow2")
	if err != nil {
		return err
	}
	words := &tail.Writer{}
	err = jail.Run(ctx, jail.Command{
		Path: path,
		Args: []string{"convert", "-p", "-f", c.Format, "-O", "qcow2", "-o", "compat=1.1,lazy_refcounts=off", jail.FD(0), jail.FD(1)},
		Read: []*os.File{c.In}, Write: []*os.File{c.Out}, Credential: c.Credential,
		Limits: jail.Limits{Memory: imgMemory, CPU: imgTime, FileSize: uint64(c.Budget)},
		Stdout: &percents{report: c.Report}, Stderr: words,
	})
	if err == nil || ctx.Err() != nil {
		return err
	}
	return c.explain(err, words.String())
}

// explain words how qemu-img ended.
func (c Conversion) explain(err error, words string) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status, _ := exit.Sys().(syscall.WaitStatus) // Linux gives no other
		switch {
		case status.Signaled() && status.Signal() == syscall.SIGXFSZ, strings.Contains(words, "File too large"):
			return &BombError{c.Budget}
		case status.Signaled() && status.Signal() == syscall.SIGXCPU:
			return refuse("qemu-img took more than %s of processor time for it", imgTime)
		case strings.Contains(words, "No space left on device"), strings.Contains(words, "Disk quota exceeded"):
			return full(filepath.Dir(c.Out.Name()), syscall.ENOSPC)
		}
	}
	names := strings.NewReplacer(jail.FD(0), "the image", jail.FD(1), "the result")
	return fmt.Errorf("qemu-img convert -f %s: %w%s", c.Format, err, tail.Suffix(names.Replace(words)))
}

// percents reads what `qemu-img convert -p` prints: "    (12.34/100%)", and a carriage return.
type percents struct {
	report func(float64)
	line   string
}

func (p *percents) Write(b []byte) (int, error) {
	lines := strings.FieldsFunc(p.line+string(b), func(r rune) bool { return r == '\r' || r == '\n' })
	for _, line := range lines {
		done, _, found := strings.Cut(strings.TrimLeft(line, " ("), "/100%)")
		if percent, err := strconv.ParseFloat(done, 64); found && err == nil {
			p.report(percent)
		}
	}
	p.line = ""
	if len(lines) > 0 && len(lines[len(lines)-1]) < len("    (100.00/100%)") {
		p.line = lines[len(lines)-1]
	}
	return len(b), nil
}
