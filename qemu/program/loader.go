package program

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// What Loader reads of an ELF file (elf(5)).
const (
	elfHeader    = 64
	elf64        = 2 // EI_CLASS
	littleEndian = 1 // EI_DATA
	segment      = 56
	interpreted  = 3    // PT_INTERP
	longestPath  = 4096 // PATH_MAX
)

var errNotELF = errors.New("it is no 64-bit ELF file")

// Loader returns the path of the program that the kernel starts to load a binary, "" for one
// that is linked statically. A script, and what is no program at all, is an error. The
// standard library's package debug/elf would do, and is a tenth of a megabyte.
func Loader(binaryPath string) (string, error) {
	f, err := os.Open(binaryPath)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var head [elfHeader]byte
	_, err = io.ReadFull(f, head[:])
	if err != nil || string(head[:4]) != "\x7fELF" || head[4] != elf64 || head[5] != littleEndian {
		return "", fmt.Errorf("read %q: %w", binaryPath, errNotELF)
	}
	at, size, n := binary.LittleEndian.Uint64(head[32:]), binary.LittleEndian.Uint16(head[54:]), binary.LittleEndian.Uint16(head[56:])
	for i := range n {
		var s [segment]byte
		if _, err := f.ReadAt(s[:], int64(at)+int64(i)*int64(size)); err != nil {
			return "", fmt.Errorf("read %q: %w", binaryPath, errNotELF)
		}
		if binary.LittleEndian.Uint32(s[:]) != interpreted {
			continue
		}
		path := make([]byte, min(binary.LittleEndian.Uint64(s[32:]), longestPath))
		if _, err := f.ReadAt(path, int64(binary.LittleEndian.Uint64(s[8:]))); err != nil {
			return "", fmt.Errorf("read %q: %w", binaryPath, errNotELF)
		}
		return strings.TrimRight(string(path), "\x00"), nil
	}
	return "", nil
}
