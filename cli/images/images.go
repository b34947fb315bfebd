// Package images has the command for the images that VMs start from: the catalog, and the
// cache.
package images

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/images"
	"github.com/qnet-vm/qnet/internal/images/fetch"
	"github.com/qnet-vm/qnet/internal/legible"
	"github.com/qnet-vm/qnet/profiles"
)

// command is one invocation.
type command struct{ *call.Call }

// verbs are the first operand, with what it does to the others.
var verbs = []struct {
	name, others, usage string
	run                 func(command, *cli.Context, []string) error
}{
	{"ls", "", "list the images that have a name, and those in the cache", command.list},
	{"pull", "IMAGE...", "download images, or newer ones of the same name", command.pull},
	{"inspect", "IMAGE", "show what is known of an image", command.inspect},
	{"rm", "IMAGE...", "remove images from the cache", command.remove},
	{"prune", "", "remove the images, and booted guests, that no VM uses", command.prune},
}

// Commands returns the command, which may be run once c has its user and places.
func Commands(c *call.Call) []*cli.Command {
	text := strings.Builder{}
	for _, v := range verbs {
		fmt.Fprintf(&text, "%-16s %s\n", strings.TrimSpace(v.name+" "+v.others), v.usage)
	}
	text.WriteString("\nAn IMAGE is a name such as debian-12, a URL with #sha256=HEX, a file, or\nthe first digits of a digest.")
	return []*cli.Command{{
		Name: "image", Usage: "list, download and remove the images that VMs start from", ArgsUsage: "ls|pull|inspect|rm|prune [IMAGE...]",
		Description: text.String(), Flags: []cli.Flag{call.JSONFlag()}, Action: command{c}.run,
	}}
}

// run calls the verb.
func (c command) run(ctx *cli.Context) error {
	args := ctx.Args().Slice()
	names := make([]string, len(verbs))
	for i, v := range verbs {
		if names[i] = v.name; len(args) == 0 || args[0] != v.name {
			continue
		}
		switch others := args[1:]; {
		case v.others == "" && len(others) > 0:
			return &call.Usage{Text: fmt.Sprintf("image %s takes no argument %q; see qnet image --help", v.name, others[0])}
		case v.others != "" && len(others) == 0:
			return &call.Usage{Text: fmt.Sprintf("image %s needs an image; \"qnet image ls\" lists their names", v.name)}
		case slices.Contains(others, ""):
			return &call.Usage{Text: fmt.Sprintf("image %s: IMAGE is empty; \"qnet image ls\" lists their names", v.name)}
		case v.others == "IMAGE" && len(others) > 1:
			return &call.Usage{Text: fmt.Sprintf("image %s takes one image, got also %q", v.name, others[1])}
		default:
			return v.run(c, ctx, others)
		}
	}
	return call.UnknownVerb("image", args, names)
}

// Store returns the cache of the call's user.
func Store(c *call.Call) images.Store {
	return images.Store{
		Dir: c.Places.Images, Config: c.Places.Config, User: c.User, Search: c.Getenv("PATH"),
	}
}

func (c command) store() images.Store { return Store(c.Call) }

// resolve returns what the user names.
func (c command) resolve(name string) (images.Image, error) {
	dir, err := os.Getwd()
	if err != nil {
		return images.Image{}, err
	}
	ref, err := profiles.ParseImage(dir, name)
	if err != nil {
		return images.Image{}, &call.Usage{Text: err.Error()}
	}
	return c.store().Resolve(ref)
}

func (c command) pull(ctx *cli.Context, names []string) error {
	list := []images.Image{}
	for _, name := range names { // an error in one comes before the first download
		i, err := c.resolve(name)
		if err != nil {
			return err
		}
		list = append(list, i)
	}
	locals := []images.Local{}
	for _, i := range list {
		report, done := Progress(c.Call)
		local, isNew, err := c.store().Pull(ctx.Context, i, report)
		done()
		if err != nil {
			return err
		}
		if !isNew {
			c.Talk("%s: nothing newer is published", i.Source())
		}
		locals = append(locals, local)
	}
	if ctx.Bool("json") {
		return c.JSON(locals)
	}
	for _, l := range locals {
		fmt.Fprintf(c.Stdout, "%s\t%s\t%s\n", l.Name, l.Digest, legible.Text(l.Path))
	}
	return nil
}

// match returns the images of the cache that the user names: by a name of the catalog, or a
// former one, a URL, a file or a digest.
func (c command) match(name string) ([]images.Cached, error) {
	i, err := c.resolve(name)
	var unknown *images.UnknownError
	if errors.As(err, &unknown) {
		i, err = images.Image{Name: name}, nil
	}
	if err != nil && !strings.HasPrefix(name, "sha256:") {
		return nil, err
	}
	return c.store().Match(i, name)
}

func (c command) remove(_ *cli.Context, names []string) error {
	inUse, err := c.store().UsedBy(c.Places.VMs)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		if known, err := c.removeBooted(name, inUse); known {
			errs = append(errs, err)
			continue
		}
		found, err := c.match(name)
		errs = append(errs, err)
		for _, image := range found {
			if err := c.removeOn(image, inUse); err != nil {
				errs = append(errs, err)
				continue
			}
			if err := c.store().Remove(image, inUse); err != nil {
				errs = append(errs, err)
				continue
			}
			c.Talk("removed %s, %s", image.Name, fetch.Bytes(image.Bytes))
		}
	}
	return errors.Join(errs...)
}

func (c command) prune(ctx *cli.Context, _ []string) error {
	inUse, err := c.store().UsedBy(c.Places.VMs)
	if err != nil {
		return err
	}
	gone, err := c.warm().Prune(inUse) // first: they rest on images
	if err != nil {
		return err
	}
	pruned, err := c.store().Prune(inUse)
	if ctx.Bool("json") {
		return errors.Join(c.JSON(prunedAll{pruned, gone}), err)
	}
	for _, s := range gone {
		pruned.Bytes += s.Bytes()
		fmt.Fprintf(c.Stdout, "%s\t%s\t%s\n", s.Name, short(s.Digest), fetch.Bytes(s.Bytes()))
	}
	for _, image := range pruned.Images {
		fmt.Fprintf(c.Stdout, "%s\t%s\t%s\n", image.Name, short(image.Digest), fetch.Bytes(image.Bytes))
	}
	for _, part := range pruned.Parts {
		fmt.Fprintf(c.Stdout, "%s\t(what came of a download)\n", legible.Text(part))
	}
	c.Talk("%s are free again", fetch.Bytes(pruned.Bytes))
	return err
}

// short returns the first digits of a digest, by which "qnet image rm" finds it.
func short(digest string) string {
	const digits = 12
	_, hex, _ := strings.Cut(digest, ":")
	return hex[:min(len(hex), digits)]
}
