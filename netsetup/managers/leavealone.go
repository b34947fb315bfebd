package managers

// File is a piece of a program's run-time configuration.
type File struct {
	Path, Text string
}

// Mark begins every file that qnet puts among another program's.
const Mark = "# qnet: "

// LeaveAlone returns the file that has a program leave all of qnet's links alone, from
// the moment they appear; ok is false for a program that reads no such file.
func LeaveAlone(p Program) (f File, ok bool) {
	f, ok = leaveAlone[p]
	return f, ok
}

// leaveAlone has the files of LeaveAlone. NetworkManager has two ways and gets both:
// unmanaged-devices, which no command of a user overrides, and a device section, in
// case an assignment in /etc replaces unmanaged-devices. networkd takes the first file
// that matches a link, in the order of their names, in any directory: "0-" comes
// before the usual "00-" and "05-".
var leaveAlone = map[Program]File{
	NetworkManager: {"/run/NetworkManager/conf.d/90-qnet.conf", Mark + `VMs run, whose links are not NetworkManager's. Removed with the last.
[keyfile]
unmanaged-devices+=interface-name:qn*

[device-qnet]
match-device=interface-name:qn*
managed=0
`},
	Networkd: {"/run/systemd/network/0-qnet.network", Mark + `VMs run, whose links are not systemd-networkd's. Removed with the last.
[Match]
Name=qn*

[Link]
Unmanaged=yes
`},
}

// LetGo returns the file that has networkd let go of one link when it reads its
// configuration again. networkd then removes what it configured on the link.
func LetGo(link string) File {
	return File{"/run/systemd/network/0-qnet-" + link + ".network", Mark + "the link is a port of VMs' bridge. Removed with that.\n" +
		"[Match]\nName=" + link + "\n\n[Link]\nUnmanaged=yes\n"}
}

// Advice returns what the user can do about a program that runs and has no LeaveAlone
// file; "" where there is nothing to do.
func Advice(p Program) string {
	if p != ConnMan {
		return ""
	}
	return "ConnMan takes the taps of VMs for Ethernet links and offers them as services: add qn to NetworkInterfaceBlacklist in " +
		"/etc/connman/main.conf, for example NetworkInterfaceBlacklist=vmnet,vboxnet,virbr,ifb,ve-,vb-,veth,qn, and restart it"
}
