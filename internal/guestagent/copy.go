package guestagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of a copy.
const (
	sendChunk  = 32 << 10  // bytes of a write; in base64 they fit into a request of package control
	fetchChunk = 128 << 10 // bytes of a read; an agent under load gives them within askTime
	mostCopied = 4 << 30   // bytes of a file, that a guest cannot fill the host's disk
	undoTime   = 10 * time.Second
	longest    = 4096 // bytes of a path, as PATH_MAX of Linux

	othersWrite fs.FileMode = 0o022 // the guest does not decide who else may change a file of the host
)

// Scripts of sh(1), that the guest needs for what the agent cannot do: modes, folders, and
// that a file appears whole or not at all. Their arguments are paths of the guest.
const (
	// A new file beside the target, which only root may read yet: it may be a secret.
	beginSend = `t=$1
[ ! -L "$t" ] || t=$(readlink -f "$t")
[ ! -d "$t" ] || t=${t%/}/$2
[ ! -e "$t" ] || [ -f "$t" ] || { echo "$t is no file" >&2; exit 1; }
umask 077
mktemp "$t` + partMark + `XXXXXX"`
	// It takes the target's place, and what replaces a file keeps its owner.
	endSend = `[ ! -f "$3" ] || chown "$(stat -c %u:%g "$3")" "$2"
chmod "$1" "$2" && mv -f "$2" "$3"`
	undoSend   = `rm -f "$1"`
	beginFetch = `[ -f "$1" ] || { echo "there is no such file" >&2; exit 1; }
stat -L -c %a "$1"`
)

// partMark stands between the name of a file and six letters of mktemp(1), while it is sent.
const partMark = ".qnet-"

// errHuge is for a file that does not end within mostCopied.
var errHuge = fmt.Errorf("it has more than %d GiB, which only a copy by SSH may have", mostCopied>>30)

// Guest is a guest's agent: a Conn, or one asked by way of a VM's supervisor.
type Guest interface {
	Exec(ctx context.Context, words []string) (Result, error)
	File(ctx context.Context, a FileArgs) (FileAnswer, error)
}

// File is a file of the host to be sent.
type File struct {
	io.Reader
	Name string      // without folders; its name in the guest where the target is a folder
	Mode fs.FileMode // permissions; others of its bits are not sent
}

// Send writes a file to a path of the guest, absolute, or into the folder of that path. It is
// whole in its place when Send returns, with its permissions, and owned by root or by the owner
// of the file it replaces; after an error, the guest is as it was. Only where qnet or the agent
// is killed, path.qnet-XXXXXX stays. Errors are those of the reader, of Exec, or have the
// guest's words.
func Send(ctx context.Context, g Guest, f File, target string) error {
	part, err := script(ctx, g, beginSend, target, f.Name)
	if err != nil {
		return fmt.Errorf("copy to %q of the guest: %w", target, err)
	}
	whole := len(part) - len(partMark) - len("XXXXXX")
	if whole <= 0 || len(part) > longest || !strings.HasPrefix(part[whole:], partMark) {
		return fmt.Errorf("copy to %q of the guest: its mktemp says %.300q", target, part)
	}
	err = opened(ctx, g, part, "w", func(handle int64) error { return pour(ctx, g, handle, f) })
	if err == nil {
		_, err = script(ctx, g, endSend, fmt.Sprintf("%o", f.Mode.Perm()), part, part[:whole])
	}
	if err != nil {
		undo, cancel := afterwards(ctx)
		defer cancel()
		_, _ = script(undo, g, undoSend, part) // the first error counts
		return fmt.Errorf("copy to %q of the guest: %w", target, err)
	}
	return nil
}

// opened opens a file of the guest for use, and closes it. The mode is that of fopen(3).
func opened(ctx context.Context, g Guest, path, mode string, use func(handle int64) error) error {
	file, err := g.File(ctx, FileArgs{Do: OpenFile, Path: path, Mode: mode})
	if err != nil {
		return known(ctx, err)
	}
	err = use(file.Handle)
	return errors.Join(err, closeFile(ctx, g, file.Handle, err))
}

// pour writes all that the reader gives.
func pour(ctx context.Context, g Guest, handle int64, src io.Reader) error {
	chunk := make([]byte, sendChunk)
	for total := int64(0); ; {
		n, readErr := io.ReadFull(src, chunk)
		if total += int64(n); total > mostCopied {
			return errHuge
		}
		for rest := chunk[:n]; len(rest) > 0; {
			wrote, err := g.File(ctx, FileArgs{Do: WriteFile, Handle: handle, Data: rest})
			if err != nil {
				return known(ctx, err)
			}
			rest = rest[wrote.Count:]
		}
		switch {
		case errors.Is(readErr, io.EOF), errors.Is(readErr, io.ErrUnexpectedEOF):
			return nil
		case readErr != nil:
			return readErr
		}
	}
}

// Fetch reads a file of the guest, of an absolute path, into what create makes for its
// permissions, of which only the owner's let anybody write. After an error the caller throws
// away what was written.
func Fetch(ctx context.Context, g Guest, source string, create func(fs.FileMode) (io.Writer, error)) error {
	err := fetch(ctx, g, source, create)
	if err != nil {
		return fmt.Errorf("copy %q of the guest: %w", source, err)
	}
	return nil
}

func fetch(ctx context.Context, g Guest, source string, create func(fs.FileMode) (io.Writer, error)) error {
	said, err := script(ctx, g, beginFetch, source)
	if err != nil {
		return err
	}
	mode, err := strconv.ParseUint(said, 8, 12)
	if err != nil {
		return fmt.Errorf("its stat says %.300q", said)
	}
	dst, err := create(fs.FileMode(mode).Perm() &^ othersWrite)
	if err != nil {
		return err
	}
	return opened(ctx, g, source, "r", func(handle int64) error { return drain(ctx, g, handle, dst) })
}

// drain reads to the end of a file of the guest.
func drain(ctx context.Context, g Guest, handle int64, dst io.Writer) error {
	for total := int64(0); ; {
		got, err := g.File(ctx, FileArgs{Do: ReadFile, Handle: handle, Count: fetchChunk})
		if err != nil {
			return known(ctx, err)
		}
		if total += int64(len(got.Data)); total > mostCopied {
			return errHuge
		}
		if _, err := dst.Write(got.Data); err != nil {
			return err
		}
		if got.End {
			return nil
		}
	}
}

// closeFile closes a file of the guest, also when ctx has ended. What was written late fails
// only here. After an earlier error it returns none.
func closeFile(ctx context.Context, g Guest, handle int64, earlier error) error {
	ctx, cancel := afterwards(ctx)
	defer cancel()
	if _, err := g.File(ctx, FileArgs{Do: CloseFile, Handle: handle}); err != nil && earlier == nil {
		return err
	}
	return nil
}

// afterwards returns the context of what undoes a copy whose own context may have ended.
func afterwards(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), undoTime)
}

// script runs one of the scripts and returns the line that it prints. It refuses paths that
// the agent would take for others, as JSON has only UTF-8.
func script(ctx context.Context, g Guest, text string, words ...string) (string, error) {
	for _, word := range words {
		if len(word) > longest || !utf8.ValidString(word) {
			return "", fmt.Errorf("the guest agent takes paths of UTF-8, of %d bytes at most, not %.300q", longest, word)
		}
	}
	r, err := g.Exec(ctx, append([]string{"sh", "-c", text, "sh"}, words...))
	switch {
	case err != nil || !r.Exited && ctx.Err() != nil:
		return "", known(ctx, err)
	case r.Code != 0 || !r.Exited:
		return "", fmt.Errorf("the guest says %.300q", strings.TrimSpace(string(r.Err)))
	}
	return strings.TrimSuffix(string(r.Out), "\n"), nil
}

// known returns why the context has ended, if it has, in place of what follows from that.
func known(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// CheckPath refuses a path of the guest that is not absolute: the agent has no home.
func CheckPath(p string) error {
	if !path.IsAbs(p) {
		return fmt.Errorf("the guest agent needs a path that begins with /, not %q", p)
	}
	return nil
}
