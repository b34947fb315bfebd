package convert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/qnet-vm/qnet/internal/jail"
	"github.com/qnet-vm/qnet/qemu/program"
	"github.com/qnet-vm/qnet/qemu/tail"
)

// Limits of zstd(1), besides maxWindow: of its buffers and threads, and of a large image.
const (
	zstdMemory = 2 << 30
	zstdTime   = time.Hour
)

// zstdBegin is how a frame begins (RFC 8878, section 3.1.1). zstd(1) takes other formats, too.
const zstdBegin = "\x28\xb5\x2f\xfd"

// unzstd has zstd(1) decompress what it reads, as a program without rights. Its library would be
// a twentieth of qnet, for the few images that are compressed so. The caller calls end.
func (u Unpacking) unzstd(ctx context.Context, in io.Reader) (plain io.Reader, end func(), err error) {
	path, ok := jail.Find("zstd", u.Search)
	if !ok {
		return nil, nil, &program.Lack{
			What:   "the program zstd is not installed, which unpacks images that are compressed as .zst",
			Remedy: "install it: Debian, Ubuntu: apt install zstd; Fedora: dnf install zstd; Arch: pacman -S zstd",
		}
	}
	begin := make([]byte, len(zstdBegin))
	if _, err := io.ReadFull(in, begin); err != nil || string(begin) != zstdBegin {
		return nil, nil, errors.New("it begins as another file")
	}
	ctx, cancel := context.WithCancel(ctx)
	from, out := io.Pipe()
	words, done := &tail.Writer{}, make(chan struct{})
	go func() {
		defer close(done)
		err := jail.Run(ctx, jail.Command{
			Path: path, Args: []string{"-d", "-c", "-q", fmt.Sprintf("--memory=%d", maxWindow)},
			Stdin: io.MultiReader(strings.NewReader(zstdBegin), in), Stdout: out, Stderr: words,
			Credential: u.Credential, Limits: jail.Limits{Memory: zstdMemory, CPU: zstdTime},
		})
		if errors.As(err, new(*exec.ExitError)) {
			err = fmt.Errorf("zstd: %w%s", err, tail.Suffix(words.String()))
		}
		out.CloseWithError(err)
	}()
	return from, func() {
		cancel()
		from.Close() //nolint:errcheck // it returns none
		<-done
	}, nil
}
