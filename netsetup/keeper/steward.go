package keeper

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/confine"
	"github.com/qnet-vm/qnet/internal/memfile"
)

// StewardFlag is the argument of the process that starts clerks (package clerk).
const StewardFlag = "--steward"

// Stewards are those of the keepers that one VM starts. They, and so the clerks, wait until the
// VM runs: its guest asks for nothing before, and they would take CPU time from its launch.
// What other guests of the network ask meanwhile waits in the clerk's sockets. The zero value
// holds stewards back. The methods may be called concurrently.
type Stewards struct {
	starting sync.Mutex // held by Start; guards err
	err      error      // of those that were held back

	mu   sync.Mutex // guards what follows
	held []func() error
	open bool // none is held back any more
}

// patience is how long a steward is held back at most, for the other guests of its network.
const patience = time.Second

// Start starts the stewards that were held back. Later ones start with their keepers. A second
// call does nothing but return the first one's error.
func (l *Stewards) Start() error {
	l.starting.Lock()
	defer l.starting.Unlock()
	for _, start := range l.release() { // mu is free: a start may wait for one that holds a steward back (Options.AsRoot)
		l.err = errors.Join(l.err, start())
	}
	return l.err
}

// release returns those that were held back, and lets go of them.
func (l *Stewards) release() []func() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := l.held
	l.held, l.open = nil, true
	return held
}

// hold keeps the start of a steward for Start. It returns false where none is held back.
func (l *Stewards) hold(start func() error) bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open {
		return false
	}
	l.held = append(l.held, start)
	time.AfterFunc(patience, func() { l.Start() }) //nolint:errcheck // the next call returns it
	return true
}

// startBoth starts the keeper and, while that begins its work or later (Stewards), the steward
// of its network's clerks. A keeper whose steward does not start finds that it is gone.
func (o Options) startBoth(keeper *exec.Cmd, network string) error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	toSteward, toKeeper := os.NewFile(uintptr(fds[0]), "steward"), os.NewFile(uintptr(fds[1]), "keeper")
	defer toSteward.Close()
	keeper.ExtraFiles = append(keeper.ExtraFiles, toSteward)
	if err := startLowered(keeper); err != nil {
		toKeeper.Close()
		return err
	}
	start := func() error {
		defer toKeeper.Close()
		if err := o.startSteward(network, toKeeper); err != nil {
			return fmt.Errorf("start its steward: %w", err)
		}
		return nil
	}
	if o.Stewards.hold(func() error { return o.asRoot(start) }) {
		return nil
	}
	if err := start(); err != nil {
		go keeper.Wait() //nolint:errcheck // so that it stays no zombie
		return err
	}
	return nil
}

// startSteward starts the steward of a network's clerks with its end of the keeper's socket.
// The caller has the rights to make it another user's, which the keeper lacks.
func (o Options) startSteward(network string, toKeeper *os.File) error {
	user := clerksUser(network)
	program, err := openTo(user, o.Exe[0])
	if err != nil {
		return err
	}
	defer program.Close()
	cmd := exec.Command(fmt.Sprintf("/proc/self/fd/%d", programFD), append(slices.Clone(o.Exe[1:]), StewardFlag)...)
	cmd.Args[0] = o.Exe[0]
	cmd.ExtraFiles, cmd.Dir, cmd.Env = []*os.File{toKeeper, program}, "/", []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: user}
	if err := startConfined(cmd, program); err != nil {
		return err
	}
	go cmd.Wait() //nolint:errcheck // so that it stays no zombie; it ends with the keeper
	return nil
}

// clerksUser is the user of a network's clerks: one of the network's own where the caller is
// root, "nobody" in a user namespace without that one, and else the caller, nil.
func clerksUser(network string) *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	for _, id := range []uint32{confine.OwnUID("network " + network), confine.Nobody} { // no VM has such a name
		if confine.MapsUser(id) && confine.MapsGroup(id) {
			return &syscall.Credential{Uid: id, Gid: id}
		}
	}
	return nil
}

// nameServers is the only TCP port that a clerk may connect to.
const nameServers = 53

// programFD is the descriptor of the steward's program.
const programFD = 4

// openTo opens a program for another user to execute. Of one that only its owner may execute
// it makes a copy in memory.
func openTo(user *syscall.Credential, path string) (*os.File, error) {
	f, err := os.OpenFile(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil || user == nil || info.Mode()&0o001 != 0 {
		return f, err
	}
	f.Close()
	if f, err = os.Open(path); err != nil {
		return nil, err
	}
	defer f.Close()
	c, err := memfile.New("qnet", f)
	if err != nil {
		return nil, err
	}
	if err := c.Chmod(0o555); err != nil {
		c.Close()
		return nil, fmt.Errorf("copy qnet into memory: %w", err)
	}
	return c, nil
}

// startConfined starts a command that can gain no rights, has no capability, and can open no
// file but programs' own.
func startConfined(cmd *exec.Cmd, program *os.File) error {
	return startAfter(cmd, func() error { return confineThread(program, cmd.SysProcAttr.Credential != nil) })
}

// confineThread takes rights from the calling thread. Its capabilities it keeps where a change
// of the user takes them.
func confineThread(program *os.File, changesUser bool) error {
	rules := []confine.Rule{{Open: program, Access: confine.Load}, {Path: os.DevNull, Access: confine.Write}}
	for _, path := range confine.Libraries() {
		rules = append(rules, confine.Rule{Path: path, Access: confine.Load})
	}
	if err := confine.NoNewRights(0); err != nil {
		return err
	}
	if err := confine.Files(rules, false, nameServers); err != nil {
		return err
	}
	if changesUser {
		return nil
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}
