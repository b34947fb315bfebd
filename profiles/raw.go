package profiles

// The raw structs are the profile as it is written: one field a key. Package strict and
// Schema read their tags.
type rawProfile struct {
	Name    string                `toml:"name" pattern:"^[a-z][a-z0-9-]{0,30}$" words:"^[a-z][a-z0-9-]{0,30}$ (lower case, digits and -)" doc:"The VM's name; default: the file's name without .toml."`
	Memory  string                `toml:"memory" pattern:"^[0-9]+(MiB|GiB|TiB)$" words:"a whole number and MiB, GiB or TiB, such as 1GiB" default:"1GiB" doc:"Memory with its unit, 16MiB to 16TiB."`
	CPUs    int64                 `toml:"cpus" range:"1,1024" default:"1" doc:"Number of virtual CPUs."`
	Accel   string                `toml:"accel" enum:"auto,kvm,tcg" default:"auto" doc:"What runs the guest's code; auto is kvm where it works, else tcg."`
	CPU     string                `toml:"cpu" pattern:"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$" doc:"CPU model; default: host under kvm, max under tcg."`
	Machine string                `toml:"machine" enum:"q35,pc" default:"q35" doc:"Machine type."`
	Image   string                `toml:"image" doc:"What the first disk is an overlay on: a name of the catalog, a URL with #sha256=, or a file."`
	Size    string                `toml:"size" pattern:"^[0-9]+(MiB|GiB|TiB)$" words:"a whole number and MiB, GiB or TiB, such as 20GiB" doc:"Size of the disk made of the image; default: the image's."`
	TPM     bool                  `toml:"tpm" doc:"A TPM 2.0, whose state is kept."`
	Boot    rawBoot               `toml:"boot" doc:"Firmware and boot order, or a kernel to boot directly; default: the firmware boots the first disk."`
	Guest   *rawGuest             `toml:"guest" doc:"What the guest is set to at its first boot."`
	Disk    []rawDisk             `toml:"disk" most:"13" doc:"Disk images, in order; at most 13."`
	NIC     []rawNIC              `toml:"nic" most:"15" doc:"Network cards, in order; at most 15. Default: one in mode nat."`
	Share   []rawShare            `toml:"share" most:"8" doc:"Folders of the host that the guest mounts, in order; at most 8."`
	Display rawDisplay            `toml:"display" doc:"The guest's screen."`
	Devices rawDevices            `toml:"devices" doc:"Smaller devices of the machine."`
	Network map[string]rawNetwork `toml:"network" doc:"Networks the NICs name, to pin what qnet would choose."`
}

type rawBoot struct {
	Kernel  string `toml:"kernel" doc:"Kernel image, relative to the profile; ~/ is your home."`
	Initrd  string `toml:"initrd" doc:"Initial RAM disk, relative to the profile; ~/ is your home."`
	Cmdline string `toml:"cmdline" doc:"Kernel command line."`

	Firmware string   `toml:"firmware" enum:"bios,uefi,uefi-secure" default:"bios" doc:"What starts the machine; UEFI keeps its variables for each VM."`
	Order    []string `toml:"order" enum:"cdrom,disk,network" doc:"What the firmware tries, in order; default: disks, then CD-ROMs, then the network."`
	Menu     bool     `toml:"menu" doc:"The firmware offers a menu before it boots."`
}

type rawGuest struct {
	User     string   `toml:"user" pattern:"^[a-z_][a-z0-9_-]{0,31}$" words:"a user name of lower-case letters, digits, _ and -" doc:"Account that is made, with sudo; default: who runs qnet."`
	Keys     []string `toml:"keys" doc:"Files of public SSH keys, relative to the profile, or keys themselves; default: yours and your agent's."`
	Hostname string   `toml:"hostname" pattern:"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$" words:"letters, digits and -, at most 63" doc:"Default: the VM's name."`
	Password string   `toml:"password" pattern:"^\\$(y|gy|7|2[abxy]|6|5)\\$[!-~]{8,384}$" words:"a hash by crypt(5), as mkpasswd and openssl passwd -6 print it" doc:"Hash of the account's password; default: none, login by key only."`
	Timezone string   `toml:"timezone" pattern:"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}$" words:"a name such as Europe/Berlin" doc:"Time zone by its name; default: the image's."`
	Locale   string   `toml:"locale" pattern:"^[A-Za-z0-9_.@-]{1,64}$" words:"a name such as en_US.UTF-8" doc:"Default: the image's."`
	Packages []string `toml:"packages" pattern:"^[A-Za-z0-9][A-Za-z0-9.+:_~=/@-]{0,127}$" words:"names of packages" doc:"Packages to install."`
	Run      []string `toml:"run" doc:"Commands that root's shell runs at the end of the first boot, in order."`
	UserData string   `toml:"user_data" doc:"File of cloud-init user data, or of an Ignition config (.ign), relative to the profile."`
}

type rawDisk struct {
	File       string `toml:"file" doc:"Image file, relative to the profile; ~/ is your home. With base, where the overlay is kept; default: among the VM's own files."`
	Format     string `toml:"format" enum:"raw,qcow2" doc:"Image format; never guessed, because a guest could change the guess. Default: raw for a cdrom, qcow2 with create or base, else none."`
	Type       string `toml:"type" enum:"disk,cdrom" default:"disk" doc:"A cdrom is read only, and holds a raw image such as an ISO."`
	Bus        string `toml:"bus" enum:"virtio,scsi,nvme,sata,usb" doc:"How the machine sees it; default: virtio, and sata for a cdrom."`
	Create     bool   `toml:"create" doc:"Make the file, of the given size, when it is missing."`
	Size       string `toml:"size" pattern:"^[0-9]+(MiB|GiB|TiB)$" words:"a whole number and MiB, GiB or TiB, such as 20GiB" doc:"Size of a disk that is made, by create or as an overlay on base."`
	Base       string `toml:"base" doc:"Image file that the disk is a writable overlay on; it is never written to."`
	BaseFormat string `toml:"base_format" enum:"raw,qcow2" default:"qcow2" doc:"Format of base."`
	Snapshot   bool   `toml:"snapshot" doc:"Writes go to a temporary overlay and are lost at the end."`
	ReadOnly   bool   `toml:"readonly" doc:"The guest cannot write."`
}

type rawNIC struct {
	Mode     string `toml:"mode" enum:"private,host-only,nat,bridge,user,none" default:"nat" doc:"How the card is connected."`
	Network  string `toml:"network" pattern:"^[a-z][a-z0-9-]{0,30}$" doc:"VMs that name the same network share one bridge; default: the mode's name."`
	Address  string `toml:"address" doc:"The guest's IPv4 address, in host-only and nat; default: derived from the MAC, the same at every run."`
	Address6 string `toml:"address6" doc:"The guest's IPv6 address, on a network with ipv6 and subnet6; default: of the network's prefix and the guest's IPv4 address."`

	MAC   string `toml:"mac" pattern:"^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$" words:"six bytes, such as 52:54:00:21:34:56" doc:"MAC address, unicast; default: derived, the same at every run."`
	Guard string `toml:"guard" enum:"on,off" default:"on" doc:"Whether frames are dropped by which the guest would pass for another machine: other MACs and addresses than its own, what routers and DHCP servers send. Turn it off for a guest that is a router or bridge."`
	Host  string `toml:"host" enum:"all,none" default:"all" doc:"What the guest reaches of the host, in host-only and nat: all that listens there, or none but DHCP, names and the gateway's ping."`
	LAN   *bool  `toml:"lan" default:"true" doc:"nat: whether the guest reaches networks of the host's, such as its LAN; false leaves it the Internet."`

	Egress []string `toml:"egress" most:"256" doc:"nat: all that the guest reaches outside: names such as deb.debian.org and *.github.com:443, prefixes such as 192.0.2.0/24:22, each with a port and /tcp or /udp where it is for one; !10.0.0.0/8 denies a prefix."`

	Isolated bool `toml:"isolated" doc:"private, host-only and nat: no other VM of the network reaches the guest, nor it them."`

	Ports []string `toml:"ports" most:"256" doc:"Ports of the host that lead to the guest: [ADDRESS:]PORT:GUEST[/tcp|/udp|/tcp+udp], also ranges of ports; without an address at 127.0.0.1 and ::1, with * at all. Not in private and none, nor with macvtap."`
	Model string   `toml:"model" enum:"virtio-net-pci,e1000,e1000e,rtl8139" default:"virtio-net-pci" doc:"The card the guest sees."`
}

type rawNetwork struct {
	Subnet  string `toml:"subnet" doc:"IPv4 prefix of host-only and nat, private (RFC 1918), /20 to /29; default: a free one, the same at every run."`
	Uplink  string `toml:"uplink" pattern:"^[^/\\s]{1,127}$" words:"a link's name or alternative name, of 1 to 127 characters without spaces and /" doc:"nat: the only link to leave by; bridge: the bridge or NIC to join; default: the default route's."`
	Macvtap bool   `toml:"macvtap" doc:"bridge: a macvtap link per NIC instead of a bridge; leaves the NIC alone, but host and VMs do not reach each other."`
	MTU     int64  `toml:"mtu" range:"576,65521" doc:"private, host-only and nat: bytes a packet may have on the network; default: 1500, in nat more where all uplinks carry more."`
	PXE     rawPXE `toml:"pxe" doc:"What BOOTP and PXE clients of host-only and nat load."`

	IPv6    string `toml:"ipv6" enum:"auto" off:"true" doc:"host-only and nat: auto gives the network a prefix of IPv6 (RFC 4193), and in nat a way out where the host has one; default: false."`
	Subnet6 string `toml:"subnet6" doc:"IPv6 prefix of a network with ipv6, unique local (RFC 4193), /64; default: a free one, the same at every run."`

	Metadata bool `toml:"metadata" doc:"nat: whether guests reach 169.254.0.0/16, where a cloud tells the host its credentials."`
}

type rawPXE struct {
	Server string `toml:"server" doc:"IPv4 address of the TFTP server; default: the host's on the network."`
	File   string `toml:"file" pattern:"^[!-~]{1,127}$" required:"true" doc:"File the client loads."`
}

type rawShare struct {
	Path     string `toml:"path" required:"true" doc:"Folder of the host, relative to the profile and within its folder."`
	Mount    string `toml:"mount" pattern:"^/[!-~]{1,254}$" words:"an absolute path in the guest without spaces, such as /src" required:"true" doc:"Where the guest mounts it."`
	ReadOnly bool   `toml:"readonly" doc:"The guest cannot write."`
}

type rawDisplay struct {
	Type string `toml:"type" enum:"none,window,vnc" default:"none" doc:"none; a window of QEMU's own; or vnc, on a socket that qnet view opens."`
}

type rawDevices struct {
	Balloon  bool   `toml:"balloon" doc:"The guest gives memory that it does not use back to the host."`
	RTC      string `toml:"rtc" enum:"utc,localtime" default:"utc" doc:"What the machine's clock shows."`
	Watchdog string `toml:"watchdog" enum:"none,reset,poweroff,pause" default:"none" doc:"What happens when the guest stops feeding its watchdog."`
	GDB      bool   `toml:"gdb" doc:"A socket for gdb beside the VM's control socket."`
	Sound    bool   `toml:"sound" doc:"A sound card; what it plays is discarded unless a display carries it."`

	GuestAgent bool `toml:"guest_agent" doc:"A port for QEMU's guest agent, by which qnet exec and qnet cp work without a network."`
}
