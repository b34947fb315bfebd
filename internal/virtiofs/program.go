package virtiofs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/qnet-vm/qnet/qemu/program"
)

// places are where distributions keep virtiofsd: it is in no PATH. Debian 13, Ubuntu and
// Fedora; Arch; Debian 12, of QEMU's own sources.
var places = []string{"/usr/libexec/virtiofsd", "/usr/lib/virtiofsd", "/usr/lib/qemu/virtiofsd"}

// Find returns the absolute path of virtiofsd: the named one, of QNET_VIRTIOFSD, or, for "",
// the first of those that distributions install. The error is a *program.Lack.
func Find(named string) (string, error) {
	if named != "" {
		path, err := filepath.Abs(named)
		if err == nil {
			err = executable(path)
		}
		if err != nil {
			return "", &program.Lack{What: fmt.Sprintf("%q, which is to share folders, cannot be run", named), Remedy: "QNET_VIRTIOFSD names it; without that, qnet looks where distributions have it", Err: err}
		}
		return path, nil
	}
	for _, path := range places {
		if executable(path) == nil {
			return path, nil
		}
	}
	if path, err := exec.LookPath("virtiofsd"); err == nil && filepath.IsAbs(path) {
		return path, nil
	}
	return "", &program.Lack{
		What:   "[[share]] needs the program virtiofsd, which is not installed",
		Remedy: "install it: apt install virtiofsd (Debian 12: qemu-system-common; Fedora, Arch: virtiofsd); or name it by QNET_VIRTIOFSD",
	}
}

func executable(path string) error {
	info, err := os.Stat(path)
	var p *os.PathError
	switch {
	case errors.As(err, &p):
		return p.Err
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("it is not a file")
	case info.Mode()&0o111 == 0:
		return errors.New("it is not executable")
	}
	return nil
}
