package cli

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/supervisor"
	"github.com/qnet-vm/qnet/profiles"
)

// Root's directories.
const (
	rootRunDir   = "/run/qnet"
	rootStateDir = "/var/lib/qnet"
)

// userRunDirs is where logind makes a run directory for each user, with the uid as name
// (pam_systemd(8)).
const userRunDirs = "/run/user"

// placeless are commands that keep and look for no file of qnet's: they work also for a
// user without a home.
var placeless = []string{"", "check", "schema", "version", "completion", "help", "h"}

// before chooses the directories, for every command. Flags override the environment.
func (a *app) before(c *cli.Context) error {
	user, err := asuser.Lookup(a.Getenv)
	if err != nil {
		return err
	}
	a.user = user
	runDir := cmp.Or(c.String("run-dir"), a.Getenv("QNET_RUN_DIR"))
	stateDir := cmp.Or(c.String("state-dir"), a.Getenv("QNET_STATE_DIR"))
	for _, dir := range []string{runDir, stateDir} {
		if strings.HasPrefix(dir, "~") {
			return &usage{fmt.Sprintf("choose directories: got %q, which the shell did not expand: write the whole path", dir)}
		}
	}
	a.runDir, a.stateDir = cmp.Or(runDir, a.defaultRunDir()), cmp.Or(stateDir, a.defaultStateDir())
	if a.runDir == "" || a.stateDir == "" {
		words := c.Args().Slice()
		if slices.Contains(placeless, c.Args().First()) || slices.Contains(words, "--help") || slices.Contains(words, "-h") {
			return nil
		}
		return &usage{fmt.Sprintf("choose directories: HOME is not set to a whole path, and %s has no home by passwd(5): set HOME, or QNET_RUN_DIR and QNET_STATE_DIR", asuser.Name(uint32(os.Geteuid())))}
	}
	if os.Geteuid() != 0 && runDir == "" && a.runDir != rootRunDir {
		a.rootRunDir = rootRunDir
	}
	if os.Geteuid() != 0 && stateDir == "" {
		a.rootStateDir = rootStateDir
	}
	if runDir == "" {
		a.moreRunDirs = a.otherRunDirs()
	}
	for _, dir := range []*string{&a.runDir, &a.stateDir} {
		if *dir, err = filepath.Abs(*dir); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) defaultRunDir() string {
	if os.Geteuid() == 0 {
		return rootRunDir
	}
	if xdg := a.Getenv("XDG_RUNTIME_DIR"); isOwn(xdg) {
		return filepath.Join(xdg, "qnet")
	}
	return a.homeRunDir() // after su(1), and for cron(8)
}

// homeRunDir returns the run directory of a user without one by logind, "" without a
// home.
func (a *app) homeRunDir() string {
	if dir := a.homeStateDir(); dir != "" {
		return filepath.Join(dir, "run")
	}
	return ""
}

func (a *app) defaultStateDir() string {
	if os.Geteuid() == 0 {
		return rootStateDir
	}
	return a.homeStateDir()
}

// homeStateDir returns the state directory of the user behind sudo, or of a caller that
// is not root, "" without a home. The environment is that of the caller: su(1) may leave
// XDG_STATE_HOME and HOME another user's, and then they are not used.
func (a *app) homeStateDir() string {
	const inHome = ".local/state/qnet"
	if a.user == nil {
		if xdg := a.Getenv("XDG_STATE_HOME"); isOwn(xdg) {
			return filepath.Join(xdg, "qnet")
		}
	}
	home := a.user.Home(a.Getenv)
	if a.user == nil && !isWritable(home) {
		// Another home only if that is better: the error names the first.
		if entry := a.user.Home(func(string) string { return "" }); isWritable(entry) {
			home = entry
		}
	}
	if home == "" {
		return ""
	}
	return filepath.Join(home, inHome)
}

// otherRunDirs returns where VMs of the same person may run besides runDir: those that a
// user started in another kind of session, and those that root's caller started without
// sudo.
func (a *app) otherRunDirs() []string {
	uid := os.Geteuid()
	if a.user != nil {
		uid = int(a.user.UID)
	}
	var list []string
	if uid != 0 {
		list = append(list, filepath.Join(userRunDirs, strconv.Itoa(uid), "qnet"), a.homeRunDir())
	}
	list = append(list, a.rootRunDir)
	return slices.DeleteFunc(list, func(dir string) bool { return dir == "" || dir == a.runDir })
}

// isOwn reports whether the environment's directory can be the caller's: an absolute
// path (XDG Base Directory Specification) of a directory that is the caller's, or that
// the caller can make.
func isOwn(dir string) bool {
	if !filepath.IsAbs(dir) {
		return false
	}
	info, err := os.Stat(dir)
	if err != nil {
		return isWritable(dir)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.IsDir() && int(st.Uid) == os.Geteuid()
}

// isWritable reports whether the caller may write to a directory or, while that is
// missing, make it in the nearest one above it.
func isWritable(dir string) bool {
	if !filepath.IsAbs(dir) {
		return false
	}
	for {
		info, err := os.Stat(dir)
		switch {
		case err == nil:
			return info.IsDir() && unix.Access(dir, unix.W_OK|unix.X_OK) == nil
		case dir == "/":
			return false
		}
		dir = filepath.Dir(dir)
	}
}

// stateDirOf returns the state directory of a profile's runs. Runs that need root's
// rights use root's, also when a user only asks what a run would do.
func (a *app) stateDirOf(p *profiles.Profile) string {
	if a.rootStateDir != "" && len(supervisor.NetworksOf(p)) > 0 {
		return a.rootStateDir
	}
	return a.stateDir
}

// runDirOf returns the run directory of a profile's runs, as stateDirOf does.
func (a *app) runDirOf(p *profiles.Profile) string {
	if a.rootRunDir != "" && len(supervisor.NetworksOf(p)) > 0 {
		return a.rootRunDir
	}
	return a.runDir
}
