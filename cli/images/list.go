package images

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/images"
	"github.com/qnet-vm/qnet/internal/images/catalog"
	"github.com/qnet-vm/qnet/internal/images/fetch"
	"github.com/qnet-vm/qnet/internal/legible"
	"github.com/qnet-vm/qnet/internal/warm"
)

// row is an image of the catalog, of the cache, or of both.
type row struct {
	Name    string         `json:"name"`
	Title   string         `json:"title,omitempty"`
	Aliases []string       `json:"aliases,omitempty"`
	URL     string         `json:"url,omitempty"`
	Sums    string         `json:"sums,omitempty"`
	Signed  string         `json:"signed,omitempty"`
	Keys    []string       `json:"keys,omitempty"`
	Format  string         `json:"format,omitempty"`
	User    string         `json:"user,omitempty"`
	Own     bool           `json:"own"` // of the user's images.toml
	Cached  *images.Cached `json:"cached,omitempty"`
	VMs     []string       `json:"vms"`              // whose disks rest on it
	Booted  *warm.State    `json:"booted,omitempty"` // a guest that was booted for several VMs
}

// rows returns the images of the cache, then the others of the catalog.
func (c command) rows() ([]row, error) {
	store := c.store()
	known, err := store.Catalog()
	if err != nil {
		return nil, err
	}
	cached, err := store.List()
	if err != nil {
		return nil, err
	}
	inUse, err := store.UsedBy(c.Places.VMs)
	if err != nil {
		return nil, err
	}
	list, there := []row{}, map[string]bool{}
	booted, err := c.warm().List()
	if err != nil {
		return nil, err
	}
	for _, s := range booted {
		list = append(list, row{Name: s.Name, Booted: &s, VMs: append([]string{}, inUse(s.Digest)...)})
	}
	for _, image := range cached {
		r := row{Name: image.Name, Title: image.Title, URL: image.URL, Sums: image.Sums, Format: image.Format, User: image.User}
		if e, ok := known.Find(image.Name); ok && e.Name == image.Name {
			r = ofCatalog(e)
		}
		r.Cached, r.VMs = &image, append([]string{}, inUse(image.Digest)...)
		list, there[image.Name] = append(list, r), true
	}
	for _, name := range known.Names() {
		if e, ok := known.Find(name); ok && !there[name] {
			list = append(list, ofCatalog(e))
		}
	}
	return list, nil
}

func ofCatalog(e catalog.Entry) row {
	return row{
		Name: e.Name, Title: e.Title, Aliases: e.Aliases, URL: e.URL, Sums: e.Sums, Signed: e.Signed, Keys: e.Keys, Format: e.Format, User: e.User, Own: e.Own, VMs: []string{},
	}
}

func (c command) list(ctx *cli.Context, _ []string) error {
	rows, err := c.rows()
	if err != nil {
		return err
	}
	if ctx.Bool("json") {
		return c.JSON(rows)
	}
	return c.Table("NAME DIGEST SIZE DISK PULLED VMS IMAGE", func(add call.Row) {
		for _, r := range rows {
			if s := r.Booted; s != nil {
				add(r.Name, short(s.Digest), fetch.Bytes(s.Bytes()), call.OrDash(""),
					s.Made.Local().Format("2006-01-02"), call.OrDash(strings.Join(r.VMs, ",")), "booted from "+s.Image+", for run --warm")
				continue
			}
			title := strings.Join(append([]string{r.Title}, r.Aliases...), ", ")
			if r.Cached == nil {
				add(r.Name, "-", "-", "-", "-", "-", title)
				continue
			}
			if !r.Cached.Current {
				title = "(an older one) " + title
			}
			add(r.Name, short(r.Cached.Digest), fetch.Bytes(r.Cached.Bytes), fetch.Bytes(r.Cached.Size),
				r.Cached.Pulled.Local().Format("2006-01-02"), call.OrDash(strings.Join(r.VMs, ",")), call.OrDash(title))
		}
	})
}

// inspect shows all images of the cache of one name, or the catalog's entry.
func (c command) inspect(ctx *cli.Context, names []string) error {
	rows, err := c.rows()
	if err != nil {
		return err
	}
	wanted, err := c.wanted(names[0], rows)
	if err != nil {
		return err
	}
	if ctx.Bool("json") {
		return c.JSON(wanted)
	}
	for i, r := range wanted {
		if i > 0 {
			fmt.Fprintln(c.Stdout)
		}
		r.print(c.Stdout)
	}
	return nil
}

// wanted returns the rows that a user names.
func (c command) wanted(name string, rows []row) ([]row, error) {
	found, err := c.match(name)
	var list []row
	for _, r := range rows {
		for _, image := range found {
			if r.Cached != nil && r.Cached.Digest == image.Digest {
				list = append(list, r)
			}
		}
	}
	if len(list) > 0 {
		return list, nil
	}
	i, resolveErr := c.resolve(name)
	for _, r := range rows {
		if resolveErr == nil && i.Name != "" && r.Name == i.Name {
			return []row{r}, nil
		}
	}
	if resolveErr != nil {
		err = resolveErr
	}
	return nil, err
}

// print writes what is known, a line for each.
func (r row) print(w io.Writer) {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%-10s %s\n", name+":", legible.Text(value))
		}
	}
	line("name", r.Name)
	line("aliases", strings.Join(r.Aliases, ", "))
	line("image", r.Title)
	line("url", r.URL)
	line("sums", r.Sums)
	line("signature", r.Signed)
	line("keys", strings.Join(r.Keys, ", "))
	line("format", r.Format)
	line("user", r.User)
	if r.Own {
		line("from", "your "+catalog.FileName)
	}
	if r.Cached == nil {
		line("cache", "not in it; qnet image pull "+r.Name)
		return
	}
	line("file", r.Cached.Path)
	line("digest", r.Cached.Digest)
	line("published", r.Cached.Published)
	line("signed", r.Cached.Signature)
	line("size", fetch.Bytes(r.Cached.Bytes))
	line("disk", fetch.Bytes(r.Cached.Size))
	line("pulled", r.Cached.Pulled.Local().Format("2006-01-02 15:04:05"))
	line("VMs", strings.Join(r.VMs, ", "))
}
