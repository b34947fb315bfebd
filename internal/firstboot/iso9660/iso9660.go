// Package iso9660 makes a small ISO 9660 volume in memory: a few files in its root, with
// their exact names by Joliet. Kernels without Joliet see the same names, because ISO 9660
// readers write those of the primary directory in lower case. All functions are pure.
//
// Sources: ECMA-119 (ISO 9660), the Joliet specification of 1995.
package iso9660

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/qnet-vm/qnet/internal/order"
)

// File is a file of the volume's root. Name has letters in lower case, digits and "-".
type File struct {
	Name string
	Data []byte
}

// sector is the size of a logical block in bytes.
const sector = 2048

// Sectors of the volume. The system area, 0 to 15, is empty.
const (
	primaryAt  = 16 // descriptors
	jolietAt   = 17
	endAt      = 18
	tablesAt   = 19 // path tables: primary and Joliet, each in both byte orders
	rootAt     = 23 // directories
	jolietRoot = 24
	filesAt    = 25
)

const (
	maxName  = 30 // bytes of a name (ECMA-119, 7.5.1)
	maxFiles = 16 // whose records fit a sector
	maxData  = 32 << 20
	dirFlag  = 2 // of a directory's record (ECMA-119, 9.1.6)
)

// Image returns a volume with the label and the files. Its size is a whole number of
// sectors. The label has at most 16 bytes of ASCII. It returns an error for what the volume
// cannot hold.
func Image(label string, files []File) ([]byte, error) {
	if err := check(label, files); err != nil {
		return nil, err
	}
	files = slices.Clone(files)
	order.By(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	starts, next := make([]uint32, len(files)), uint32(filesAt)
	for i, f := range files {
		starts[i] = next
		next += sectors(len(f.Data))
	}
	image := make([]byte, int(next)*sector)
	at := func(n uint32) []byte { return image[int(n)*sector:] }
	for i, tree := range []struct {
		name          func(string) []byte
		at, root      uint32
		kind          byte
		label, escape string
	}{
		{plain, primaryAt, rootAt, 1, label, ""},
		{wide, jolietAt, jolietRoot, 2, string(wide(label)), "%/E"}, // UCS-2 level 3
	} {
		tables := uint32(tablesAt + 2*i)
		copy(at(tree.at), descriptor(tree.kind, tree.label, tree.escape, tree.root, tables, next))
		copy(at(tables), pathTable(binary.LittleEndian, tree.root))
		copy(at(tables+1), pathTable(binary.BigEndian, tree.root))
		dir := slices.Concat(record([]byte{0}, tree.root, sector, dirFlag), record([]byte{1}, tree.root, sector, dirFlag))
		for j, f := range files {
			dir = append(dir, record(tree.name(f.Name), starts[j], uint32(len(f.Data)), 0)...)
		}
		copy(at(tree.root), dir)
	}
	copy(at(endAt), "\xffCD001\x01")
	for i, f := range files {
		copy(at(starts[i]), f.Data)
	}
	return image, nil
}

// check refuses what the volume cannot hold.
func check(label string, files []File) error {
	size := 0
	for _, f := range files {
		if f.Name == "" || len(f.Name) > maxName || strings.Trim(f.Name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return fmt.Errorf("make ISO 9660 volume: name %q: allowed: 1 to %d of a-z, 0-9 and -", f.Name, maxName)
		}
		size += len(f.Data)
	}
	switch {
	case len(label) > 16:
		return fmt.Errorf("make ISO 9660 volume: label %q is longer than 16 bytes", label)
	case len(files) > maxFiles:
		return fmt.Errorf("make ISO 9660 volume: %d files, at most %d", len(files), maxFiles)
	case size > maxData:
		return fmt.Errorf("make ISO 9660 volume: files of %d bytes, at most %d", size, maxData)
	}
	return nil
}

func sectors(n int) uint32 { return uint32((n + sector - 1) / sector) }

// plain is a name of the primary directory. Readers write it in lower case and without its
// end, so that it is the file's name again (isofs_name_translate in fs/isofs/dir.c).
func plain(name string) []byte { return []byte(strings.ToUpper(name) + ".;1") }

// wide is text in UCS-2, big-endian, as Joliet has it.
func wide(text string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(text)) {
		b = binary.BigEndian.AppendUint16(b, u)
	}
	return b
}

// both appends a number in both byte orders (ECMA-119, 7.3.3).
func both(b []byte, n uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.LittleEndian.AppendUint32(b, n), n)
}

// both16 appends a number of 16 bits in both byte orders (ECMA-119, 7.2.3).
func both16(b []byte, n uint16) []byte {
	return binary.BigEndian.AppendUint16(binary.LittleEndian.AppendUint16(b, n), n)
}

// record returns a directory record (ECMA-119, 9.1). Its time is none.
func record(name []byte, start, size uint32, flags byte) []byte {
	b := both([]byte{0, 0}, start)
	b = both(b, size)
	b = append(b, make([]byte, 7)...) // the time
	b = append(b, flags, 0, 0)
	b = both16(b, 1) // volume
	b = append(b, byte(len(name)))
	b = append(b, name...)
	if len(b)%2 == 1 {
		b = append(b, 0)
	}
	b[0] = byte(len(b))
	return b
}

// pathTable returns a table of one directory, the root (ECMA-119, 9.4).
func pathTable(order binary.AppendByteOrder, root uint32) []byte {
	b := order.AppendUint32([]byte{1, 0}, root)
	return append(order.AppendUint16(b, 1), 0, 0)
}

// tableSize is the size of a path table in bytes.
const tableSize = 10

// descriptor returns a volume descriptor (ECMA-119, 8.4 and 8.5).
func descriptor(kind byte, label, escape string, root, tables, sectors uint32) []byte {
	fill := " "
	if kind == 2 {
		fill = "\x00 "
	}
	text := func(s string, n int) []byte { return []byte((s + strings.Repeat(fill, n))[:n]) }
	b := append([]byte{kind}, "CD001\x01\x00"...)
	b = append(b, text("", 32)...) // system
	b = append(b, text(label, 32)...)
	b = both(append(b, make([]byte, 8)...), sectors)
	b = append(b, (escape + strings.Repeat("\x00", 32))[:32]...)
	b = both16(both16(both16(b, 1), 1), sector) // volumes, this one's number, block size
	b = both(b, tableSize)
	b = binary.LittleEndian.AppendUint32(b, tables)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, tables+1)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = append(b, record([]byte{0}, root, sector, dirFlag)...)
	b = append(b, text("", 623)...)                   // who made it, and of what
	never := append(bytes.Repeat([]byte("0"), 16), 0) // a time that is none
	b = append(b, bytes.Repeat(never, 4)...)          // made, changed, expires, effective
	return append(b, 1)                               // version of the structure
}
