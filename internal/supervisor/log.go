package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/qnet-vm/qnet/internal/hardware"
	"github.com/qnet-vm/qnet/internal/logfile"
	"github.com/qnet-vm/qnet/internal/perm"
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/keeper"
)

// LogPath returns the file that keeps a VM's console, also after its end.
func LogPath(stateDir, name string) string {
	return filepath.Join(stateDir, "logs", name, "console.log")
}

// logPath returns a file of the VM's logs, and for "" their directory.
func (s *session) logPath(file string) string {
	return filepath.Join(s.StateDir, "logs", s.profile.Name, file)
}

// makeLogDir makes the directory of the VM's logs, which the user behind sudo owns and has to
// reach: an administrator may have closed a directory above it.
func (s *session) makeLogDir() error {
	dir := s.logPath("")
	err := rundir.MakeState(s.StateDir, "logs")
	if err == nil {
		err = perm.MkdirAll(dir, perm.Dir())
	}
	if err == nil {
		err = s.User.Chown(dir)
	}
	if err != nil {
		return fmt.Errorf("make log directory: %w", s.unusable("state directory", s.StateDir, err))
	}
	err = s.User.Do(func() error {
		_, err := os.Stat(dir)
		return err
	})
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return &hardware.FileError{What: "log directory", Path: dir, Err: p.Err}
	}
	return err
}

// openNotes opens qnet.log, as the user behind sudo. It stays open until everything is
// undone.
func (s *session) openNotes() error {
	log, err := logfile.Open(s.logPath("qnet.log"))
	if err != nil {
		return fmt.Errorf("open log: %w", s.unusable("state directory", s.StateDir, err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes = log
	return nil
}

// note tells the user something, and writes it to qnet.log: of a VM in the background,
// the user reads only the log.
func (s *session) note(n keeper.Note) {
	s.Note(n)
	s.record(n.String())
}

// warn tells the user something that matters only while the VM starts.
func (s *session) warn(text string) { s.Note(keeper.Note{Subject: s.subject(), Text: text}) }

// tell notes what happens while the VM runs.
func (s *session) tell(text string) { s.note(keeper.Note{Subject: s.subject(), Text: text}) }

// subject returns the subject of notes about the VM.
func (s *session) subject() string { return "VM " + s.profile.Name }

// maxLate is how much of qnet.log waits, in bytes, while the disk is full.
const maxLate = 64 << 10

// record writes a line to qnet.log, which is there from the time the VM starts to run. A
// line that a full disk does not take waits for the next one: it may be about that disk.
func (s *session) record(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.notes == nil {
		return
	}
	if len(s.late) < maxLate {
		s.late = fmt.Appendf(s.late, "%s %s\n", time.Now().Format(time.RFC3339), text)
	}
	n, _ := s.notes.Write(s.late) // what it did not take waits
	s.late = s.late[n:]
}

func (s *session) closeNotes() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	log := s.notes
	s.notes = nil
	if log == nil {
		return nil
	}
	return log.Close()
}
