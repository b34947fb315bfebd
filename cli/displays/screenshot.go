package displays

import (
	"fmt"
	"os"

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

func (d displays) screenshot(c *cli.Context) error {
	args, err := call.Operands(c, "NAME", "FILE")
	if err != nil {
		return err
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
