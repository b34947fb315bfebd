package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	commands "github.com/qnet-vm/qnet/cli/images"
	"github.com/qnet-vm/qnet/internal/disks"
	"github.com/qnet-vm/qnet/internal/hardware"
	"github.com/qnet-vm/qnet/internal/images"
	"github.com/qnet-vm/qnet/internal/supervisor"
	"github.com/qnet-vm/qnet/internal/warm"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu/program"
)

func (a *app) warmCache() warm.Cache { return warm.Cache{Images: a.Places.Images, User: a.User} }

// warmOf returns the booted guest that a run with --warm begins from, which it may have to boot
// first; nil for a run that boots, because the user did not ask, or for a reason that it tells.
func (a *app) warmOf(c *cli.Context, p *profiles.Profile, path string, extra []string) (*warm.State, error) {
	if !c.Bool("warm") {
		return nil, nil
	}
	if why := warm.Cannot(p); why != "" {
		return nil, &call.Usage{Text: fmt.Sprintf("run VM %q with --warm: %s", p.Name, why)}
	}
	boots := func(why string) {
		a.Warn(keeper.Note{Subject: "VM " + p.Name, Text: fmt.Sprintf("VM %q boots, --warm or not: %s", p.Name, why)})
	}
	if warm.Began(p, a.Files()) {
		boots(fmt.Sprintf("it has a disk of its own from an earlier run, and goes on with that; qnet rm %s removes it", p.Name))
		return nil, nil
	}
	o := a.Files()
	o.Progress = a.Progress(p.Name)
	key, err := a.warmKey(c.Context, p, o, extra)
	if err != nil {
		return nil, err
	}
	s, err := a.warmCache().Find(key)
	if errors.Is(err, fs.ErrNotExist) && !c.Bool("detached") {
		a.Talk("%s: booting a guest for all VMs like this one; it is kept, and takes up to %s of the disk", p.Name, disks.Size(warm.Needs(p)))
		err = a.inSession(a.sessionArguments(c, p, path, extra, "--for-others", key), a.Progress(p.Name))
		if err == nil {
			s, err = a.warmCache().Find(key)
		}
	}
	switch {
	case c.Err() != nil:
		return nil, c.Err()
	case err != nil:
		boots(err.Error() + a.consoleOf(key))
		return nil, nil //nolint:nilerr // the run goes on: it boots
	}
	return &s, nil
}

// consoleOf says where the console of the guest is that was booted for others, if it got so far.
func (a *app) consoleOf(key string) string {
	path := supervisor.LogPath(a.Places.State, warm.NameOf(key))
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return "; its console is in " + path
}

// planWarm returns what a run with --warm would begin from, among the options for its files, and
// says so.
func (a *app) planWarm(c *cli.Context, p *profiles.Profile) (o hardware.Options, about string, err error) {
	o = a.Files()
	if !c.Bool("warm") {
		return o, "", nil
	}
	if why := warm.Cannot(p); why != "" {
		return o, "", &call.Usage{Text: fmt.Sprintf("run VM %q with --warm: %s", p.Name, why)}
	}
	if warm.Began(p, o) {
		return o, "it has a disk of its own from an earlier run, and goes on with that, --warm or not", nil
	}
	first := fmt.Sprintf("a run first boots a guest for all VMs like this one; it is kept, and takes up to %s of the disk", disks.Size(warm.Needs(p)))
	store := commands.Store(&a.Call)
	image, err := store.Resolve(p.Image)
	if err != nil {
		return o, first, err
	}
	local, found, err := store.Find(image)
	if err != nil || !found {
		return o, first, err
	}
	key, err := a.warmKeyOf(p, local, o, nil)
	if err != nil {
		return o, "", err
	}
	s, err := a.warmCache().Find(key)
	if errors.Is(err, fs.ErrNotExist) {
		return o, first, nil
	}
	if err != nil {
		return o, "it boots, --warm or not: " + err.Error(), nil //nolint:nilerr // so a run does
	}
	o.Base = s.Base()
	return o, fmt.Sprintf("it does not boot: it begins from %s, which was booted on %s, and is told by its agent who it is before its cables are plugged",
		s.Name, s.Made.Local().Format(time.DateTime)), nil
}

// warmKey finds what VMs of the profile begin from. It may wait for the image to be downloaded.
func (a *app) warmKey(ctx context.Context, p *profiles.Profile, o hardware.Options, extra []string) (string, error) {
	image, err := hardware.EnsureImage(ctx, p, o)
	if err != nil {
		return "", err
	}
	return a.warmKeyOf(p, image, o, extra)
}

func (a *app) warmKeyOf(p *profiles.Profile, image images.Local, o hardware.Options, extra []string) (string, error) {
	binary, err := program.Find(a.Getenv("PATH"), a.Getenv("QNET_QEMU"))
	if err != nil {
		return "", err
	}
	return warm.Key(p, image, o, binary, extra)
}

// bootForOthers is the process that boots a guest for all VMs with the key. Of several at once,
// one does it and the others wait.
func (a *app) bootForOthers(c *cli.Context, p *profiles.Profile, key string, extra []string) error {
	say, end := speech()
	defer end()
	progress := func(what string) { say(word{Progress: &what}) }
	o, done := a.options(c, extra)
	defer done()
	o.Note = func(n keeper.Note) { say(word{Note: &n}) }
	o.Progress, o.Stdout, o.ForOthers = progress, io.Discard, true
	err := a.bootOnce(c.Context, p, key, o)
	if err != nil {
		say(word{Err: &farError{messageOf(err)}})
		return err
	}
	say(word{Done: true})
	return nil
}

func (a *app) bootOnce(ctx context.Context, p *profiles.Profile, key string, o supervisor.Options) (err error) {
	cache, began := a.warmCache(), time.Now()
	lock, err := cache.Lock(ctx, key, func() { o.Progress("another qnet, which boots the guest") })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.User.Do(lock.Release)) }()
	if _, err := cache.Find(key); err == nil {
		return nil // another process has just booted it
	}
	if err := cache.Begin(p, key); err != nil {
		return err
	}
	o.Files.Ledger, o.Files.VMs = hardware.LedgerOf(o.Files.VMs), cache.Boots()
	err = supervisor.Run(ctx, warm.Profile(p, warm.NameOf(key)), o)
	if err == nil {
		o.Progress("the guest to be kept")
		err = cache.Keep(key, warm.Record{Image: p.Image.String(), Profile: p.Path, Seconds: int(time.Since(began).Seconds())})
	}
	if err != nil {
		return errors.Join(err, cache.Drop(key))
	}
	return nil
}
