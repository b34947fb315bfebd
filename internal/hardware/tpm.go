package hardware

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/swtpm"
	"github.com/qnet-vm/qnet/internal/vmuser"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu/program"
)

// tpm is the TPM of a VM. There is a swtpm for each start of QEMU: one QEMU takes its
// connection, and ends it.
type tpm struct {
	o          Options
	program    string
	state      *os.File            // the directory, open by O_PATH
	credential *program.Credential // as whom swtpm runs

	mu      sync.Mutex // guards what follows
	current *swtpm.TPM // nil while none is to run
}

// openTPM finds swtpm, and makes the directory of the TPM's state, which belongs to the user
// that swtpm runs as.
func (f *Files) openTPM(p *profiles.Profile) error {
	if !p.TPM {
		return nil
	}
	binary, err := swtpm.Find(f.o.path())
	if err != nil {
		return err
	}
	t := &tpm{o: f.o, program: binary, credential: vmuser.Credential(f.o.User, p.Name)}
	dir := f.Kept.File("tpm")
	err = f.o.User.Do(func() error {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		t.state, err = os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if c := vmuser.Credential(f.o.User, p.Name); err == nil && f.o.User == nil && c != nil {
			err = give(dir, c)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("make directory of the TPM's state: %w", err)
	}
	f.tpm = t
	return nil
}

// give makes a directory and its files the user's. Those of root's own VM may be of another
// user: a VM has the user of its name.
func give(dir string, c *program.Credential) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	paths := []string{dir}
	for _, e := range entries {
		paths = append(paths, filepath.Join(dir, e.Name()))
	}
	for _, path := range paths {
		if err := os.Lchown(path, int(c.UID), int(c.GID)); err != nil {
			return err
		}
	}
	return nil
}

// path is PATH of the call.
func (o Options) path() string {
	if o.Getenv == nil {
		return ""
	}
	return o.Getenv("PATH")
}

// connect starts swtpm and returns QEMU's end of the connection, for machine.Devices. It
// ends the swtpm of a QEMU that did not start.
func (t *tpm) connect() (*os.File, error) {
	if err := t.stop(); err != nil {
		return nil, err
	}
	next, err := swtpm.Start(t.state, swtpm.Options{Program: t.program, Credential: t.credential})
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current = next
	go t.watch(next)
	return next.Socket(), nil
}

// watch tells the user if the TPM ends by a failure while its VM runs.
func (t *tpm) watch(one *swtpm.TPM) {
	<-one.Done()
	t.mu.Lock()
	running := t.current == one
	t.mu.Unlock()
	if err := one.Err(); running && err != nil && t.o.Tell != nil {
		t.o.Tell(fmt.Sprintf("%v; the guest runs on without a TPM", err))
	}
}

// stop ends the swtpm that runs, if one does.
func (t *tpm) stop() error {
	t.mu.Lock()
	one := t.current
	t.current = nil
	t.mu.Unlock()
	if one == nil {
		return nil
	}
	return one.Stop()
}

// close ends the TPM for good. Nothing is done for nil.
func (t *tpm) close() error {
	if t == nil {
		return nil
	}
	return errors.Join(t.stop(), t.state.Close())
}

// Explain adds swtpm's words, and virtiofsd's, to the error of a QEMU that did not start, if
// there are any.
func (f *Files) Explain(err error) error {
	if f == nil || err == nil {
		return err
	}
	err = f.explainServing(err)
	if f.tpm == nil {
		return err
	}
	f.tpm.mu.Lock()
	defer f.tpm.mu.Unlock()
	if f.tpm.current == nil {
		return err
	}
	return f.tpm.current.Explain(err)
}
