// Package profiles reads VM profiles: TOML in, a Profile of typed, checked
// values out, or every problem at once with file, line and key.
//
// Load reads the file into raw structs of strings and numbers (raw.go) and makes a
// Profile of them (valid.go). Schema makes the JSON Schema of the same raw structs.
// Nothing after Load parses a string. The package touches no file but the profile;
// its functions may be called concurrently.
package profiles

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/qnet-vm/qnet/profiles/reach"
	"github.com/qnet-vm/qnet/profiles/strict"
)

// Mode is how a NIC is connected.
type Mode string

// The modes of a NIC.
const (
	Private  Mode = "private"   // VMs among themselves
	HostOnly Mode = "host-only" // and the host
	NAT      Mode = "nat"       // and the outside, masqueraded
	Bridge   Mode = "bridge"    // on the host's LAN
	User     Mode = "user"      // QEMU's own stack, needs no rights
	None     Mode = "none"      // not connected
)

// NeedsNetwork reports whether the mode makes or joins a bridge.
func (m Mode) NeedsNetwork() bool {
	return m == Private || m == HostOnly || m == NAT || m == Bridge
}

// HasSubnet reports whether the host has an address on networks of the mode, and
// serves DHCP and names there.
func (m Mode) HasSubnet() bool { return m == HostOnly || m == NAT }

// Accel is what runs the guest's code.
type Accel string

// The accelerators; AccelAuto is KVM where it works, else TCG.
const (
	AccelAuto Accel = "auto"
	AccelKVM  Accel = "kvm"
	AccelTCG  Accel = "tcg"
)

// Profile describes one VM. Nothing changes it after Load.
type Profile struct {
	Name     string
	Path     string // absolute, of the file
	Memory   int64  // bytes
	CPUs     int
	Accel    Accel
	CPU      string // "" = host under KVM, max under TCG
	Machine  string
	Image    Image // of the first disk; zero = none, and all disks are in Disks
	Size     int64 // bytes of the image's disk; 0 = the image's own
	TPM      bool
	Boot     Boot
	Guest    *Guest // nil = nothing is said about it
	Disks    []Disk
	Shares   []Share
	Display  DisplayType
	Devices  Devices
	NICs     []NIC
	Networks map[string]Network // by name, those of the NICs

	// Allowed are folders that the user lets the profile name besides its own, as absolute
	// paths. The profile has no say in it: who loads it sets them.
	Allowed []string

	places      strict.Places // of the keys
	forwardKeys map[Forward]string
}

// Wrong returns what is wrong with a key of the profile, such as "disk[0].file": what was got
// and what is allowed, with the file and the line.
func (p *Profile) Wrong(key, format string, args ...any) *Error {
	places := p.places
	places.File = cmp.Or(places.File, p.Path)
	return places.Wrong(key, format, args...)
}

// ForwardKey returns the key of the profile that a forward of it comes from, such as
// "nic[0].ports[1]", "" of another forward.
func (p *Profile) ForwardKey(f Forward) string { return p.forwardKeys[f] }

// Image is what a VM's first disk is an overlay on: one of Name, URL and File.
type Image struct {
	Name string // of the catalog
	URL  string // with Sum
	Sum  string // "sha256:" or "sha512:" and lower-case hex digits
	File string // absolute path
}

// String returns the image as a profile names it.
func (i Image) String() string {
	if i.URL != "" {
		return i.URL + "#" + strings.Replace(i.Sum, ":", "=", 1)
	}
	return cmp.Or(i.Name, i.File)
}

// Firmware is what starts the machine.
type Firmware string

// The firmwares.
const (
	BIOS       Firmware = "bios"
	UEFI       Firmware = "uefi"
	UEFISecure Firmware = "uefi-secure" // with enrolled keys; starts only what they signed
)

// What the firmware may boot from, in Boot.Order.
const (
	BootCDROM   = "cdrom"
	BootDisk    = "disk"
	BootNetwork = "network"
)

// Boot is how the machine boots, or a kernel to boot directly. Paths are absolute, "" where
// not given.
type Boot struct {
	Kernel, Initrd, Cmdline string

	Firmware Firmware
	Order    []string // each at most once; nil = disks, CD-ROMs, network
	Menu     bool
}

// Guest is what the guest is set to at its first boot.
type Guest struct {
	User     string   // "" = who runs qnet
	Keys     []Key    // nil = the user's own
	Hostname string   // "" = the VM's name
	Password string   // hash by crypt(5); "" = none
	Timezone string   // "" = the image's, as for Locale
	Locale   string   //
	Packages []string // in order, as for Run
	Run      []string // commands of root's shell
	UserData string   // absolute path; "" = none
}

// Key is an SSH public key, or the absolute path of a file with some.
type Key struct{ Text, File string }

// DiskType is what kind of device a disk is.
type DiskType string

// The types of disks.
const (
	HardDisk DiskType = "disk"
	CDROM    DiskType = "cdrom" // read only
)

// Bus is how the machine sees a disk.
type Bus string

// The buses.
const (
	VirtIO Bus = "virtio"
	SCSI   Bus = "scsi"
	NVMe   Bus = "nvme"
	SATA   Bus = "sata"
	USB    Bus = "usb"
)

// Disk is an image. Paths are absolute; formats are "raw" or "qcow2".
type Disk struct {
	File, Format       string // File "" keeps the overlay on Base among the VM's own files
	Snapshot, ReadOnly bool
	Type               DiskType
	Bus                Bus
	Create             bool   // make File if it is missing
	Size               int64  // bytes of a disk that is made; 0 with Base = the base's
	Base, BaseFormat   string // "" = no overlay
}

// Share is a folder of the host that the guest mounts.
type Share struct {
	Path     string // absolute
	Mount    string // in the guest, absolute
	ReadOnly bool
}

// DisplayType is how the guest's screen is shown.
type DisplayType string

// The displays.
const (
	NoDisplay DisplayType = "none"
	Window    DisplayType = "window"
	VNC       DisplayType = "vnc"
)

// Devices are smaller devices of the machine.
type Devices struct {
	Balloon  bool
	RTC      string // "utc" or "localtime"
	Watchdog string // "none", or what it does: "reset", "poweroff", "pause"
	GDB      bool
	Sound    bool

	GuestAgent bool // a port for QEMU's guest agent
}

// NIC is one network card of the guest.
type NIC struct {
	Mode    Mode
	Network string           // "" for user and none
	Address netip.Addr       // zero = derived
	MAC     net.HardwareAddr // nil = derived
	Model   string

	Address6 netip.Addr // zero = derived from the IPv4 address, on a network with IPv6

	Unguarded bool // guard = "off"
	Reach     reach.Policy

	Forwards []Forward // of ports, expanded
}

// MinMTU and MaxMTU bound the MTU of a network, in bytes. Every host takes packets of
// MinMTU (RFC 791), and DHCP's answers may be as large (RFC 2131, section 2); IPv6
// needs 1280 and is off in guests below that (RFC 8200, section 5). MaxMTU is a tap's:
// the kernel's 65535 without the Ethernet header (tun_net_init in drivers/net/tun.c);
// a bridge takes 65535.
const (
	MinMTU = 576
	MaxMTU = 65535 - 14
)

// Network is a network as the profile describes it.
type Network struct {
	Name    string
	Mode    Mode
	Subnet  netip.Prefix // zero = choose one
	Uplink  string       // "" = find it
	Macvtap bool         // bridge: without one
	MTU     int          // bytes, MinMTU to MaxMTU; 0 = choose it
	PXE     PXE

	IPv6    bool         // host-only and nat: it has a prefix of IPv6
	Subnet6 netip.Prefix // with IPv6; zero = choose one

	Metadata bool // nat: guests may send to 169.254.0.0/16
}

// PXE is the boot file of BOOTP and PXE clients of a network. File "" is none.
type PXE struct {
	Server netip.Addr `json:"server,omitzero"` // TFTP server; zero = the network's gateway
	File   string     `json:"file,omitempty"`
}

// Error is one problem of a profile.
type Error = strict.Error

// Errors are all problems of a profile in the order of the file.
type Errors = strict.Errors

// MaxSize is the largest profile read, in bytes.
const MaxSize = strict.MaxSize

// Reader reads profiles. Home is the home directory of the user, for paths that begin
// with ~/; without one such a path is refused.
type Reader struct{ Home string }

// Load reads a profile for no user in particular; see Reader.
func Load(path string) (*Profile, error) { return Reader{}.Load(path) }

// Decode reads a profile from r for no user in particular; see Reader.
func Decode(r io.Reader, path string) (*Profile, error) { return Reader{}.Decode(r, path) }

// Load reads a profile. It returns Errors for what is wrong in the file, and
// an *fs.PathError for a file that cannot be read. Only a regular file is a profile: a
// run in the background reads it twice.
func (o Reader) Load(path string) (*Profile, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO would block
	switch {
	case errors.Is(err, syscall.ENXIO):
		return nil, fmt.Errorf("read profile %s: it is %w", path, errNoFile)
	case err != nil && path == "-":
		return nil, fmt.Errorf("read profile -: %w: standard input is %w", err, errNoFile)
	case err != nil:
		return nil, fmt.Errorf("read profile: %w%s", err, otherFile(path))
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("read profile: %w", err)
	case info.IsDir():
		return nil, fmt.Errorf("read profile %s: it is a directory; name the file in it", path)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("read profile %s: it is %w", path, errNoFile)
	}
	return o.Decode(f, path)
}

// otherFile names the profile that a VM's name in place of a path means.
func otherFile(path string) string {
	if _, err := os.Stat(path + ".toml"); err != nil {
		return ""
	}
	return fmt.Sprintf("; did you mean %s.toml?", path)
}

// errNoFile is the cause where a pipe, a socket or a device stands for the profile.
var errNoFile = errors.New("no regular file: its folder is where relative paths start, and its name is the VM's; write the profile to a file")

// Decode reads a profile from r. The path appears in errors, its last element is the
// VM's default name, and relative paths in the profile start from its directory.
func (o Reader) Decode(r io.Reader, path string) (*Profile, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read profile %s: %w", path, err)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("read profile %s: %w", path, err)
	}
	d := &decoder{Decoder: strict.New(&language, path), home: o.Home, forwardKeys: map[Forward]string{}}
	var raw rawProfile
	var p *Profile
	if d.Decode(data, &raw) {
		p = d.valid(raw, abs)
		p.places, p.forwardKeys = d.Places, d.forwardKeys
	}
	if errs := d.Errors(); len(errs) > 0 {
		return nil, errs
	}
	return p, nil
}
