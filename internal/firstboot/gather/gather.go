// Package gather finds what a guest's first boot is made of: the profile's [guest], the
// user's name and public keys, qnet's own key, and the guest's host keys, which it makes
// and keeps in the VM's directory. All files are opened with the user's rights. Its
// functions may be called concurrently, for one VM by who holds its lock.
package gather

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/atomicfile"
	"github.com/qnet-vm/qnet/internal/firstboot"
	"github.com/qnet-vm/qnet/internal/pattern"
	"github.com/qnet-vm/qnet/internal/reachable"
	"github.com/qnet-vm/qnet/internal/sshkey"
	"github.com/qnet-vm/qnet/internal/vmdir"
	"github.com/qnet-vm/qnet/profiles"
)

// Request says for which VM and which user.
type Request struct {
	Profile *profiles.Profile
	NICs    []firstboot.NIC
	Mounts  []firstboot.Mount

	DefaultUser string // the image's account, "" if it is not known
	Ignition    bool   // the image takes Ignition

	VM     vmdir.Dir
	Config string       // directory of the user's settings, which has qnet's key
	User   *asuser.User // behind sudo
	Home   string       // of the user, "" without one
	Getenv func(string) string
}

// Wanted reports whether qnet tells a VM anything at its first boot: one that says [guest], or
// has an image.
func Wanted(p *profiles.Profile) bool { return p.Guest != nil || p.Image != (profiles.Image{}) }

// Ignition reports whether a profile has an Ignition config of its own.
func Ignition(p *profiles.Profile) bool {
	return p.Guest != nil && filepath.Ext(p.Guest.UserData) == ".ign"
}

// OwnKey is the path of qnet's own key below the directory of settings. The key is among
// those that each guest lets in, so that `qnet ssh`, exec and cp need no other.
func OwnKey(config string) string { return filepath.Join(config, "id_ed25519") }

// Settings finds everything, and makes the keys that are missing.
func Settings(r Request) (firstboot.Settings, error) {
	s := r.settings()
	err := r.User.Do(func() error {
		if err := r.ensureOwnKey(&s); err != nil {
			return err
		}
		if err := r.VM.Make(); err != nil {
			return err
		}
		for _, k := range hostKeys {
			pair, err := sshkey.Ensure(r.VM.File(k.file), k.kind, r.Profile.Name)
			if err != nil {
				return err
			}
			s.HostKeys = append(s.HostKeys, pair)
		}
		if err := r.readFiles(&s); err != nil {
			return err
		}
		return r.remember(&s)
	})
	return s, err
}

// ensureOwnKey adds qnet's own key, which it makes if it is missing.
func (r Request) ensureOwnKey(s *firstboot.Settings) error {
	own, err := sshkey.Ensure(OwnKey(r.Config), sshkey.Ed25519, "qnet")
	s.OwnKey = own.Public
	return err
}

// Shared is Settings for several VMs: without host keys, host name and MAC addresses, which are
// each VM's own. It makes qnet's own key if it is missing, and nothing else.
func Shared(r Request) (firstboot.Settings, error) {
	s := r.settings()
	err := r.User.Do(func() error {
		if err := r.ensureOwnKey(&s); err != nil {
			return err
		}
		return r.readFiles(&s)
	})
	s.Hostname, s.NICs = "", slices.Clone(s.NICs)
	for i := range s.NICs {
		s.NICs[i].MAC = ""
	}
	return s, err
}

// Preview finds what is there, and makes nothing. Of keys that are missing it says so in
// their place.
func Preview(r Request) (firstboot.Settings, error) {
	s := r.settings()
	const later = "(made by the first run)"
	err := r.User.Do(func() error {
		s.OwnKey = later
		if own, err := sshkey.Load(OwnKey(r.Config), "qnet"); err == nil {
			s.OwnKey = own.Public
		}
		for _, k := range hostKeys {
			pair, err := sshkey.Load(r.VM.File(k.file), r.Profile.Name)
			if err != nil {
				pair = sshkey.Pair{Public: k.kind + " " + later}
			}
			s.HostKeys = append(s.HostKeys, pair)
		}
		if err := r.readFiles(&s); err != nil {
			return err
		}
		if was, err := r.recall(); err == nil && s.Found && was.InstanceID == s.InstanceID() {
			s.Keys = was.Keys
		}
		return nil
	})
	return s, err
}

// hostKeys are the keys of the guest's SSH server, below the VM's directory.
var hostKeys = []struct{ kind, file string }{
	{sshkey.Ed25519, "hostkeys/ssh_host_ed25519_key"},
	{sshkey.ECDSA, "hostkeys/ssh_host_ecdsa_key"},
}

// settings returns what needs no files.
func (r Request) settings() firstboot.Settings {
	g := r.guest()
	s := firstboot.Settings{
		User: g.User, Hostname: g.Hostname, Password: g.Password, Timezone: g.Timezone, Locale: g.Locale,
		Packages: g.Packages, Run: g.Run, NICs: r.NICs, Mounts: r.Mounts,
		Ignition: r.Ignition || Ignition(r.Profile),
	}
	if s.User == "" {
		s.User = r.login(s.Ignition)
	}
	if s.Hostname == "" {
		s.Hostname = r.Profile.Name
	}
	return s
}

func (r Request) guest() profiles.Guest {
	if r.Profile.Guest == nil {
		return profiles.Guest{}
	}
	return *r.Profile.Guest
}

// userName is what useradd(8) of every distribution takes.
var userName = pattern.Of(`^[a-z_][a-z0-9_-]{0,31}$`)

// login returns the account by default: the user's own name. root, without a user behind
// sudo, has the image's account: distributions let no root in.
func (r Request) login(ignition bool) string {
	uid := uint32(os.Geteuid())
	if r.User != nil {
		uid = r.User.UID
	}
	name := strings.ToLower(asuser.Name(uid))
	switch {
	case ignition:
		return firstboot.IgnitionUser
	case name != firstboot.Root && userName().MatchString(name):
		return name
	case r.DefaultUser != "":
		return r.DefaultUser
	case name == firstboot.Root:
		return name
	}
	return "user" // such as of a directory, "DOMAIN\Jane Doe"
}

// readFiles reads the user's data and public keys. The error has a *firstboot.Mistake for each
// file that is wrong.
func (r Request) readFiles(s *firstboot.Settings) error {
	g := r.guest()
	folders, err := reachable.Of(r.Profile, r.Config, reachable.Qnets{Keys: sshkey.HomeFiles(r.Home)})
	if err != nil {
		return err
	}
	var errs []error
	if g.UserData != "" {
		text, err := readUserData(folders, g.UserData)
		if err != nil {
			errs = append(errs, mistake("guest.user_data", err))
		}
		s.UserData = firstboot.UserData{File: g.UserData, Text: text}
	}
	if g.Keys == nil {
		s.Found, s.Keys = true, r.found()
	}
	for i, k := range g.Keys {
		key := fmt.Sprintf("guest.keys[%d]", i)
		list, err := keysOf(folders, key, k)
		if err != nil {
			errs = append(errs, mistake(key, err))
		}
		s.Keys = sshkey.Merge(s.Keys, list...)
	}
	return errors.Join(errs...)
}

// mistake adds the key to an error that does not have it.
func mistake(key string, err error) error {
	if outside, ok := errors.AsType[*reachable.Error](err); ok {
		return outside
	}
	return &firstboot.Mistake{Key: key, Err: err}
}

// keysOf reads what guest.keys[i], key, says. Besides what the profile may reach it may name
// the public keys in the user's home: a guest gets those as well where the profile has no keys.
func keysOf(folders *reachable.Folders, key string, k profiles.Key) ([]string, error) {
	if k.File == "" {
		public, err := sshkey.Parse(k.Text)
		return []string{public}, err
	}
	f, err := folders.Open(key, k.File)
	if err != nil {
		return nil, fmt.Errorf("read public key: %w", err)
	}
	defer f.Close()
	return sshkey.FromOpen(f)
}

// found returns the user's public keys: those in the home directory, and the agent's. An
// agent that does not answer has none: qnet's own key logs in as well.
func (r Request) found() []string {
	keys := sshkey.FromHome(r.Home)
	if socket := r.Getenv("SSH_AUTH_SOCK"); socket != "" {
		if more, err := sshkey.FromAgent(socket); err == nil {
			keys = sshkey.Merge(keys, more...)
		}
	}
	return keys
}

// readUserData reads a regular file. It tells a file that is too large by its size, and so
// reads a little more than is allowed.
func readUserData(folders *reachable.Folders, path string) (string, error) {
	f, err := folders.Open("guest.user_data", path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, firstboot.MaxUserData+1))
	return string(b), err
}

// memory is the file seed.json of the VM's directory: what its first boot was made of.
type memory struct {
	InstanceID string   `json:"instance_id"`
	User       string   `json:"user"`
	Keys       []string `json:"keys"` // that were found
}

func (r Request) recall() (memory, error) {
	var m memory
	b, err := os.ReadFile(r.VM.File("seed.json"))
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	return m, err
}

// remember keeps the keys that were found at the first boot: the guest takes others only
// when something else has changed, so a run from another terminal, whose agent has other
// keys, tells it the same.
func (r Request) remember(s *firstboot.Settings) error {
	now := memory{s.InstanceID(), s.User, s.Keys}
	if was, err := r.recall(); err == nil && was.InstanceID == now.InstanceID {
		if s.Found {
			s.Keys = was.Keys
		}
		return nil
	}
	b, err := json.MarshalIndent(now, "", "  ")
	if err == nil {
		err = atomicfile.Write(r.VM.File("seed.json"), append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("keep the identity of the first boot: %w", err)
	}
	return nil
}
