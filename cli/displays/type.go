package displays

import (
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/qemu/screen"
)

// batch is how many strokes one request has: it may have 4,000 bytes.
const batch = 50

func (d displays) typeCommand() *cli.Command {
	return &cli.Command{
		Name: "type", Usage: "type a text on a VM's keyboard", ArgsUsage: "NAME TEXT",
		Description: "The guest must have the layout of a US keyboard. Names of keys stand between < and >, those pressed together with -:\n" +
			"<enter> <esc> <tab> <backspace> <del> <insert> <home> <end> <pgup> <pgdn> <up> <down> <left> <right> <f1> to <f12>\n" +
			"<ctrl> <alt> <altgr> <shift> <meta> <menu> <print> <sysrq> <pause>; <lt> is the character <.\n\n" +
			"Examples: qnet type --enter web root\n   qnet type web '<ctrl-alt-del>'",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "enter", Usage: "press Enter behind the text"}},
		Action: d.typeText,
	}
}

func (d displays) typeText(c *cli.Context) error {
	args, err := call.Operands(c, "NAME", "TEXT")
	if err != nil {
		return err
	}
	strokes, err := screen.Strokes(args[1])
	if err != nil {
		return &call.Usage{Text: "type: " + err.Error()}
	}
	if len(strokes) == 0 && !c.Bool("enter") {
		return &call.Usage{Text: "type: TEXT is empty; --enter presses Enter alone"}
	}
	if c.Bool("enter") {
		strokes = append(strokes, screen.Enter)
	}
	for some := range slices.Chunk(strokes, batch) {
		if err := d.do(c.Context, args[0], control.Operation{Name: "type", Args: some}, nil); err != nil {
			return err
		}
	}
	return nil
}
