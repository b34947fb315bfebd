package profiles

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/qnet-vm/qnet/internal/pattern"
	"github.com/qnet-vm/qnet/profiles/strict"
)

const (
	maxShares = 8

	leastMiB, mostMiB = 16, 16 << 20 // memory
	mostDiskMiB       = 64 << 20     // 64 TiB; qcow2 with clusters of 64 KiB ends at 2 EiB
)

// bytesOf reads a size that matches the keys' pattern, in MiB; ok is false where it exceeds
// most.
func bytesOf(s string, most int64) (bytes int64, ok bool) {
	shift := map[string]int{"MiB": 20, "GiB": 30, "TiB": 40}[s[len(s)-3:]]
	n, err := strconv.ParseInt(s[:len(s)-3], 10, 64)
	if err != nil || n > most<<20>>shift {
		return 0, false
	}
	return n << shift, true
}

// memory reads the VM's memory, "" for the default, in bytes.
func (d *decoder) memory(s string) int64 {
	n, ok := bytesOf(cmp.Or(s, "1GiB"), mostMiB)
	if !ok || n < leastMiB<<20 {
		d.Fail("memory", "got %s, allowed: 16MiB to 16TiB", strict.Quote(s))
		return 0
	}
	return n
}

// size reads the size of a disk, "" for none, in bytes.
func (d *decoder) size(key, s string) int64 {
	if s == "" {
		return 0
	}
	n, ok := bytesOf(s, mostDiskMiB)
	if !ok || n == 0 {
		d.Fail(key, "got %s, allowed: 1MiB to 64TiB", strict.Quote(s))
	}
	return n
}

var (
	imageName = pattern.Of(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	imageURL  = pattern.Of(`^(https?://[!-"$-~]+)#(sha256=[0-9a-fA-F]{64}|sha512=[0-9a-fA-F]{128})$`)
	// imageFile matches a name without a slash that is a file's.
	imageFile = pattern.Of(`(?i)\.(qcow2|img|raw|iso|vmdk|vhdx?|vdi)(\.(gz|xz|zst|bz2))?$`)
)

// ParseImage reads an image as a profile or a command line names it; a file is relative to
// dir. The error says what is allowed.
func ParseImage(dir, s string) (Image, error) {
	d := &decoder{Decoder: strict.New(&language, s)}
	image := d.image(dir, s)
	if errs := d.Errors(); len(errs) > 0 {
		return Image{}, fmt.Errorf("image: %s", errs[0].Msg)
	}
	return image, nil
}

func (d *decoder) image(dir, s string) Image {
	m := imageURL().FindStringSubmatch(s)
	switch {
	case s == "":
		return Image{}
	case m != nil:
		return Image{URL: m[1], Sum: strings.ToLower(strings.Replace(m[2], "=", ":", 1))}
	case strings.Contains(s, "://"):
		d.Fail("image", "got %s, allowed: a URL by https or http with its checksum behind it, as https://HOST/FILE#sha256=64 HEX DIGITS", strict.Quote(s))
		return Image{}
	case strings.Contains(s, "/") || strings.HasPrefix(s, "~") || imageFile().MatchString(s):
		return Image{File: d.path("image", dir, s)}
	case !imageName().MatchString(s):
		d.Fail("image", "got %s, allowed: a name such as debian-12 (qnet image ls), a URL with #sha256=, or a file such as ./debian.qcow2", strict.Quote(s))
	}
	return Image{Name: s}
}

func (d *decoder) boot(raw rawBoot, dir string) Boot {
	b := Boot{
		Kernel: d.path("boot.kernel", dir, raw.Kernel), Initrd: d.path("boot.initrd", dir, raw.Initrd), Cmdline: raw.Cmdline,
		Firmware: Firmware(cmp.Or(raw.Firmware, string(BIOS))), Order: raw.Order, Menu: raw.Menu,
	}
	if b.Kernel == "" && (b.Initrd != "" || b.Cmdline != "") {
		d.Fail("boot.kernel", "missing; initrd and cmdline are for a kernel")
	}
	if b.Kernel != "" && raw.Order != nil {
		d.Fail("boot.order", "the kernel of boot.kernel is what boots; leave order out")
	}
	for i, what := range b.Order {
		if slices.Contains(b.Order[:i], what) {
			d.Fail(fmt.Sprintf("boot.order[%d]", i), "got %s twice, allowed: each once", strict.Quote(what))
		}
	}
	if raw.Order != nil && len(raw.Order) == 0 {
		d.Fail("boot.order", "got an empty array; leave the key out instead")
	}
	return b
}

func (d *decoder) guest(raw *rawGuest, dir string) *Guest {
	if raw == nil {
		return nil
	}
	g := &Guest{
		User: raw.User, Hostname: raw.Hostname, Password: raw.Password, Timezone: raw.Timezone, Locale: raw.Locale,
		Packages: raw.Packages, Run: raw.Run, UserData: d.path("guest.user_data", dir, raw.UserData),
	}
	if raw.Keys != nil {
		g.Keys = []Key{}
	}
	for i, k := range raw.Keys {
		key := Key{Text: k}
		if !publicKey().MatchString(k) {
			key = Key{File: d.path(fmt.Sprintf("guest.keys[%d]", i), dir, k)}
		}
		g.Keys = append(g.Keys, key)
	}
	return g
}

// publicKey matches a public key as ssh-keygen(1) writes it.
var publicKey = pattern.Of(`^(ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+ [A-Za-z0-9+/]+=*( .*)?$`)

// taken says why a share cannot be mounted at a clean path in the guest, "" if it can: it would
// hide what the guest runs on. Below these a folder is the user's to choose, but where the
// guest's kernel makes all files.
func taken(mount string) string {
	first, _, _ := strings.Cut(mount[1:], "/")
	switch {
	case mount == "/":
		return "the guest's root"
	case slices.Contains([]string{"proc", "sys", "dev"}, first):
		return "where the guest's kernel shows its own files"
	case slices.Contains(systemFolders, mount):
		return "without which the guest does not run"
	}
	return ""
}

// systemFolders hold a guest's programs, settings and state (file-hierarchy(7)).
var systemFolders = []string{
	"/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/run", "/sbin", "/tmp",
	"/usr", "/usr/bin", "/usr/lib", "/usr/lib64", "/usr/sbin", "/usr/share", "/var", "/var/lib",
}

func (d *decoder) shares(raws []rawShare, dir string) []Share {
	if len(raws) > maxShares {
		d.Fail("share", "got %d, allowed: at most %d", len(raws), maxShares)
	}
	var shares []Share
	for i, r := range raws {
		key := fmt.Sprintf("share[%d].", i)
		s := Share{Path: d.path(key+"path", dir, r.Path), Mount: filepath.Clean(cmp.Or(r.Mount, "/")), ReadOnly: r.ReadOnly}
		if why := taken(s.Mount); r.Mount != "" && why != "" {
			d.Fail(key+"mount", "got %s, %s; allowed: a folder that the guest does not need, such as /src", strict.Quote(r.Mount), why)
		}
		if s.Mount != "/" && slices.ContainsFunc(shares, func(o Share) bool { return o.Mount == s.Mount }) {
			d.Fail(key+"mount", "got %s, where another share is mounted already", strict.Quote(r.Mount))
		}
		shares = append(shares, s)
	}
	return shares
}
