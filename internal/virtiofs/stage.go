package virtiofs

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// order is what the stage has to do.
type order struct {
	Program  string
	ReadOnly bool
	Keep     []string
}

// Main is the stage: it makes its namespaces what virtiofsd is to see, gives up its rights,
// and becomes virtiofsd. It returns only if that fails: the exit code, after it told why to
// the process that started it. stderr gets what a user sees who calls it.
func Main(args []string, stderr io.Writer) int {
	report := os.NewFile(reportFD, "report")
	if len(args) != 1 || os.Getpid() != 1 || report == nil {
		fmt.Fprintln(stderr, "qnet: this is for qnet itself, which starts virtiofsd by it")
		return 2
	}
	unix.CloseOnExec(reportFD)
	runtime.LockOSThread() // rights and filter belong to the thread that becomes virtiofsd
	err := stage(args[0])
	json.NewEncoder(report).Encode(failureOf(err)) //nolint:errcheck // nobody is left to tell
	return 1
}

func stage(text string) error {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return fmt.Errorf("read order: %w", err)
	}
	if err := raiseFiles(); err != nil {
		return err
	}
	if err := (&root{order: o}).build(); err != nil {
		return err
	}
	if err := filter(Owner).Install(); err != nil {
		return err
	}
	d, err := dialectOf(o.Program)
	if err != nil {
		return err
	}
	if err := giveUp(d.rights()); err != nil {
		return fmt.Errorf("give up rights: %w", err)
	}
	if _, err := unix.FcntlInt(listenFD, unix.F_SETFD, 0); err != nil { // qnet's main closes what it inherits
		return fmt.Errorf("pass on the socket: %w", err)
	}
	argv := append([]string{"virtiofsd"}, d.arguments()...)
	return fmt.Errorf("execute %q: %w", o.Program, unix.Exec(o.Program, argv, os.Environ()))
}

// raiseFiles lets virtiofsd have as many open files as the host allows: it has one for each
// of the folder's files that the guest's kernel knows.
func raiseFiles() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("look at the limit of open files: %w", err)
	}
	limit.Cur = limit.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("raise the limit of open files: %w", err)
	}
	return nil
}

// dialect is which of the two programs of the name it is.
type dialect string

const (
	cProgram    dialect = "C"
	rustProgram dialect = "Rust"
)

// dialectOf asks the program. It has the rights of the stage, without the folder's user
// being able to gain by that: the user namespace is the user's own.
func dialectOf(program string) (dialect, error) {
	cmd := exec.Command(program, "--version")
	cmd.Stdin = os.Stdin // there is no /dev/null
	out, err := cmd.CombinedOutput()
	words := strings.TrimSpace(string(out))
	switch {
	case err != nil && words != "":
		return "", fmt.Errorf("ask %q for its version: %w: %s", program, err, words)
	case err != nil:
		return "", fmt.Errorf("ask %q for its version: %w", program, err)
	case strings.Contains(words, "QEMU Project"):
		return cProgram, nil
	case strings.HasPrefix(words, "virtiofsd"):
		return rustProgram, nil
	}
	return "", fmt.Errorf("ask %q for its version: it is no virtiofsd: %s", program, words)
}

// arguments are the program's, without its name. Neither makes namespaces of its own. The
// one in Rust runs without a chroot, which it leaves to root: it can see the host's
// programs, to read.
func (d dialect) arguments() []string {
	if d == cProgram {
		return []string{
			"--fd=3", "-f", "--rlimit-nofile=0", "-o", "source=" + folderAt, "-o", "sandbox=chroot", "-o", "log_level=warn",
			"-o", "modcaps=-mknod:-setfcap:-setuid:-setgid", "-o", "no_posix_lock", "-o", "no_flock", "-o", "no_xattr",
		}
	}
	return []string{"--fd=3", "--rlimit-nofile=0", "--shared-dir", folderAt, "--sandbox", "none", "--seccomp", "kill", "--log-level", "warn"}
}
