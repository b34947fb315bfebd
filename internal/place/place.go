// Package place chooses the directories in which qnet keeps its files, and finds running
// VMs in them: the user's own, those that the user started with or without sudo, and those
// of other users, which it only names. It makes no directory.
package place

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/asuser"
)

// Root's directories.
const (
	RootRunDir   = "/run/qnet"
	RootStateDir = "/var/lib/qnet"
)

// userRunDirs is where logind makes a run directory for each user, with the uid as name
// (pam_systemd(8)).
const userRunDirs = "/run/user"

// Places are the directories of one call of qnet. All paths are absolute.
type Places struct {
	Run, State string
	RootRun    string   // root's run directory, for a user who named none; else ""
	RootState  string   // root's state directory, likewise
	More       []string // where else the user's VMs may run

	// What is kept of VMs and for them: the user's own, with and without sudo the same. Each
	// is "" for a user without a home.
	VMs    string // directory of the VMs' directories, see package vmdir
	Images string // cache of images
	Config string // the user's settings

	user   *asuser.User
	getenv func(string) string
}

// Of returns the run and the state directory of runs that need root's rights, or not.
func (p Places) Of(root bool) (runDir, stateDir string) {
	runDir, stateDir = p.Run, p.State
	if root {
		runDir, stateDir = cmp.Or(p.RootRun, p.Run), cmp.Or(p.RootState, p.State)
	}
	return runDir, stateDir
}

// ErrNoHome is wrapped by the error of Choose for a user without a home.
var ErrNoHome = errors.New("HOME is not set to a whole path")

// Choose returns the directories for a user, the one behind sudo or nil for the caller.
// runDir and stateDir are those that the user named, or "".
func Choose(getenv func(string) string, user *asuser.User, runDir, stateDir string) (Places, error) {
	p := Places{user: user, getenv: getenv}
	for _, dir := range []string{runDir, stateDir} {
		if strings.HasPrefix(dir, "~") {
			return p, fmt.Errorf("choose directories: got %q, which the shell did not expand: write the whole path", dir)
		}
	}
	p.Run, p.State = cmp.Or(runDir, p.defaultRun()), cmp.Or(stateDir, p.defaultState())
	if p.Run == "" || p.State == "" {
		return p, fmt.Errorf("choose directories: %w, and %s has no home by passwd(5): set HOME, or QNET_RUN_DIR and QNET_STATE_DIR", ErrNoHome, asuser.Name(uint32(os.Geteuid())))
	}
	if os.Geteuid() != 0 && runDir == "" && p.Run != RootRunDir {
		p.RootRun = RootRunDir
	}
	if os.Geteuid() != 0 && stateDir == "" {
		p.RootState = RootStateDir
	}
	if runDir == "" {
		p.More = p.others()
	}
	p.keep(stateDir)
	for _, dir := range []*string{&p.Run, &p.State, &p.VMs, &p.Images, &p.Config} {
		if *dir == "" {
			continue
		}
		var err error
		if *dir, err = filepath.Abs(*dir); err != nil {
			return p, fmt.Errorf("choose directories: %w", err)
		}
	}
	return p, nil
}

// keep chooses where VMs' files, images and settings are kept: below the state directory
// that the user named, or in the user's home (XDG Base Directory Specification), or among
// root's.
func (p *Places) keep(stateDir string) {
	switch {
	case stateDir != "":
		p.VMs, p.Images, p.Config = filepath.Join(stateDir, "vms"), filepath.Join(stateDir, "images"), filepath.Join(stateDir, "config")
	case os.Geteuid() == 0 && p.user == nil:
		p.VMs, p.Images, p.Config = filepath.Join(RootStateDir, "vms"), "/var/cache/qnet/images", "/etc/qnet"
	default:
		p.VMs = p.inHome("XDG_DATA_HOME", ".local/share", "qnet/vms")
		p.Images = p.inHome("XDG_CACHE_HOME", ".cache", "qnet/images")
		p.Config = p.inHome("XDG_CONFIG_HOME", ".config", "qnet")
	}
}

// inHome returns a directory below the one that the variable names, if that can be the
// caller's, or else below dir in the user's home; "" without a home.
func (p *Places) inHome(variable, dir, below string) string {
	if p.user == nil {
		if xdg := p.getenv(variable); isOwn(xdg) {
			return filepath.Join(xdg, below)
		}
	}
	home := p.home()
	if home == "" {
		return ""
	}
	return filepath.Join(home, dir, below)
}

func (p *Places) defaultRun() string {
	if os.Geteuid() == 0 {
		return RootRunDir
	}
	if xdg := p.getenv("XDG_RUNTIME_DIR"); isOwn(xdg) {
		return filepath.Join(xdg, "qnet")
	}
	return p.homeRun() // after su(1), and for cron(8)
}

// homeRun returns the run directory of a user without one by logind, "" without a
// home.
func (p *Places) homeRun() string {
	if dir := p.homeState(); dir != "" {
		return filepath.Join(dir, "run")
	}
	return ""
}

func (p *Places) defaultState() string {
	if os.Geteuid() == 0 {
		return RootStateDir
	}
	return p.homeState()
}

// homeState returns the state directory of the user behind sudo, or of a caller that
// is not root, "" without a home. The environment is that of the caller: su(1) may leave
// XDG_STATE_HOME and HOME another user's, and then they are not used.
func (p *Places) homeState() string {
	const inHome = ".local/state/qnet"
	if p.user == nil {
		if xdg := p.getenv("XDG_STATE_HOME"); isOwn(xdg) {
			return filepath.Join(xdg, "qnet")
		}
	}
	home := p.home()
	if home == "" {
		return ""
	}
	return filepath.Join(home, inHome)
}

// home returns the home directory of the user behind sudo, or of the caller, "" without one.
func (p *Places) home() string {
	home := p.user.Home(p.getenv)
	if p.user == nil && !isWritable(home) {
		// Another home only if that is better: the error names the first.
		if entry := p.user.Home(func(string) string { return "" }); isWritable(entry) {
			home = entry
		}
	}
	return home
}

// others returns where VMs of the same person may run besides Run: those that a
// user started in another kind of session, and those that root's caller started without
// sudo.
func (p *Places) others() []string {
	uid := os.Geteuid()
	if p.user != nil {
		uid = int(p.user.UID)
	}
	var list []string
	if uid != 0 {
		list = append(list, filepath.Join(userRunDirs, strconv.Itoa(uid), "qnet"), p.homeRun())
	}
	list = append(list, p.RootRun)
	return slices.DeleteFunc(list, func(dir string) bool { return dir == "" || dir == p.Run })
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
