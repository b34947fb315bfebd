package displays

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/qemu/screen"
)

func (d displays) screenshotCommand() *cli.Command {
	return &cli.Command{
		Name: "screenshot", Usage: "write what a VM's screen shows to a file, as PNG", ArgsUsage: "NAME FILE",
		Description: "FILE is replaced where it exists; - is stdout. The VM needs a screen: [display] type = \"vnc\" in its profile.\n\nExample: qnet screenshot web screen.png",
		Action:      d.screenshot,
	}
}

// otherPictures are the suffixes of names that promise another format than PNG.
var otherPictures = []string{".bmp", ".gif", ".jpeg", ".jpg", ".pdf", ".pnm", ".ppm", ".svg", ".tif", ".tiff", ".webp"}

func (d displays) screenshot(c *cli.Context) error {
	args, err := call.Operands(c, "NAME", "FILE")
	if err != nil {
		return err
	}
	if suffix := strings.ToLower(filepath.Ext(args[1])); slices.Contains(otherPictures, suffix) {
		return &call.Usage{Text: fmt.Sprintf("screenshot: FILE: got %q, but the picture is PNG; allowed: a name that ends with .png", args[1])}
	}
	var picture []byte
	most := int64(screen.MaxShot)*4/3 + 4096 // base64
	if err := d.do(c.Context, args[0], control.Operation{Name: "screenshot", Most: most}, &picture); err != nil {
		return err
	}
	if args[1] == "-" {
		_, err = d.Stdout.Write(picture)
		return err
	}
	err = d.User.Do(func() error { return os.WriteFile(args[1], picture, 0o666) })
	if err != nil {
		return fmt.Errorf("write picture: %w", err)
	}
	return nil
}
