package viewers

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/qemu/program"
)

// ErrNoViewer is the error of Find.
var ErrNoViewer = &program.Lack{
	What:   "no VNC viewer that takes a UNIX socket is in PATH",
	Remedy: "install TigerVNC's: apt install tigervnc-viewer (Fedora, Arch: tigervnc); or gvncviewer",
}

// askTime is how long a program may take to say which it is.
const askTime = 5 * time.Second

// Find returns a program that shows a screen by a UNIX socket, looked up in path, the value of
// $PATH: TigerVNC's vncviewer, or gvncviewer. Others called vncviewer, and remote-viewer, take
// a TCP port only, which every user of the host could connect to. Without one the error is
// ErrNoViewer.
func Find(ctx context.Context, path string) (string, error) {
	for _, name := range []string{"xtigervncviewer", "vncviewer", "gvncviewer"} {
		for _, dir := range filepath.SplitList(path) {
			file := filepath.Join(dir, name)
			if info, err := os.Stat(file); !filepath.IsAbs(dir) || err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
				continue
			}
			if name != "vncviewer" || isTiger(ctx, file) {
				return file, nil
			}
		}
	}
	return "", ErrNoViewer
}

// isTiger reports whether a program called vncviewer says that it is TigerVNC's.
func isTiger(ctx context.Context, file string) bool {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, file, "--version")
	cmd.Env, cmd.Dir, cmd.WaitDelay = program.Environment(), "/", time.Second
	out, _ := cmd.CombinedOutput() // it exits with 1
	return strings.Contains(string(out), "TigerVNC")
}

// ErrNoDesktop tells that the caller has no desktop to show a window on.
var ErrNoDesktop = errors.New("neither WAYLAND_DISPLAY nor DISPLAY is set: there is no desktop to show a window on")

// Command returns the viewer's command for a socket, with the rights and the desktop of the
// user: the one behind sudo, or nil for the caller. It ends with a Ctrl-C on the caller's terminal.
func Command(viewer, socket string, user *asuser.User, getenv func(string) string) (*exec.Cmd, error) {
	if getenv("WAYLAND_DISPLAY") == "" && getenv("DISPLAY") == "" {
		return nil, ErrNoDesktop
	}
	cmd := exec.Command(viewer, socket)
	cmd.Dir = "/"
	cmd.Env = program.Environment()
	for _, name := range []string{"DISPLAY", "XAUTHORITY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR", "LANG"} {
		if v := getenv(name); v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	if home := user.Home(getenv); home != "" {
		cmd.Env = append(cmd.Env, "HOME="+home)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if user != nil && os.Geteuid() == 0 { // else the process is the user's already
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: user.UID, Gid: user.GID, Groups: user.Groups}
	}
	return cmd, nil
}
