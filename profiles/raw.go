package profiles

// The raw structs are the profile as it is written: one field a key. Package strict and
// Schema read their tags.
type rawProfile struct {
	Name    string                `toml:"name" pattern:"^[a-z][a-z0-9-]{0,30}$" words:"^[a-z][a-z0-9-]{0,30}$ (lower case, digits and -)" doc:"The VM's name; default: the file's name without .toml."`
	Memory  string                `toml:"memory" pattern:"^[0-9]+(MiB|GiB|TiB)$" words:"a whole number and MiB, GiB or TiB, such as 1GiB" default:"1GiB" doc:"Memory with its unit, 16MiB to 16TiB."`
	CPUs    int64                 `toml:"cpus" range:"1,1024" default:"1" doc:"Number of virtual CPUs."`
	Accel   string                `toml:"accel" enum:"auto,kvm,tcg" default:"auto" doc:"What runs the guest's code; auto is kvm where it works, else tcg."`
	CPU     string                `toml:"cpu" pattern:"^[A-Za-z0-9_.-]{1,64}$" doc:"CPU model; default: host under kvm, max under tcg."`
	Machine string                `toml:"machine" enum:"q35,pc" default:"q35" doc:"Machine type."`
	Boot    rawBoot               `toml:"boot" doc:"A kernel to boot directly; default: the firmware boots the first disk."`
	Disk    []rawDisk             `toml:"disk" most:"13" doc:"Disk images, in order; at most 13."`
	NIC     []rawNIC              `toml:"nic" most:"15" doc:"Network cards, in order; at most 15. Default: one in mode nat."`
	Network map[string]rawNetwork `toml:"network" doc:"Networks the NICs name, to pin what qnet would choose."`
}

type rawBoot struct {
	Kernel  string `toml:"kernel" doc:"Kernel image, relative to the profile; ~/ is your home."`
	Initrd  string `toml:"initrd" doc:"Initial RAM disk, relative to the profile; ~/ is your home."`
	Cmdline string `toml:"cmdline" doc:"Kernel command line."`
}

type rawDisk struct {
	File     string `toml:"file" required:"true" doc:"Image file, relative to the profile; ~/ is your home."`
	Format   string `toml:"format" enum:"raw,qcow2" required:"true" doc:"Image format; never guessed, because a guest could change the guess."`
	Snapshot bool   `toml:"snapshot" doc:"Writes go to a temporary overlay and are lost at the end."`
	ReadOnly bool   `toml:"readonly" doc:"The guest cannot write."`
}

type rawNIC struct {
	Mode    string `toml:"mode" enum:"private,host-only,nat,bridge,user,none" default:"nat" doc:"How the card is connected."`
	Network string `toml:"network" pattern:"^[a-z][a-z0-9-]{0,30}$" doc:"VMs that name the same network share one bridge; default: the mode's name."`
	Address string `toml:"address" doc:"The guest's IPv4 address, in host-only and nat; default: derived from the MAC, the same at every run."`
	MAC     string `toml:"mac" pattern:"^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$" words:"six bytes, such as 52:54:00:21:34:56" doc:"MAC address, unicast; default: derived, the same at every run."`
	Model   string `toml:"model" enum:"virtio-net-pci,e1000,e1000e,rtl8139" default:"virtio-net-pci" doc:"The card the guest sees."`
}

type rawNetwork struct {
	Subnet  string `toml:"subnet" doc:"IPv4 prefix of host-only and nat, private (RFC 1918), /20 to /29; default: a free one, the same at every run."`
	Uplink  string `toml:"uplink" pattern:"^[^/\\s]{1,127}$" words:"a link's name or alternative name, of 1 to 127 characters without spaces and /" doc:"nat: the only link to leave by; bridge: the bridge or NIC to join; default: the default route's."`
	Macvtap bool   `toml:"macvtap" doc:"bridge: a macvtap link per NIC instead of a bridge; leaves the NIC alone, but host and VMs do not reach each other."`
	MTU     int64  `toml:"mtu" range:"576,65521" doc:"private, host-only and nat: bytes a packet may have on the network; default: 1500, in nat more where all uplinks carry more."`
	PXE     rawPXE `toml:"pxe" doc:"What BOOTP and PXE clients of host-only and nat load."`
}

type rawPXE struct {
	Server string `toml:"server" doc:"IPv4 address of the TFTP server; default: the host's on the network."`
	File   string `toml:"file" pattern:"^[!-~]{1,127}$" required:"true" doc:"File the client loads."`
}
