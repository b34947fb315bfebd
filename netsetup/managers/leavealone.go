package managers

// File is a piece of a program's run-time configuration.
type File struct {
	Path, Text string
}

// Mark begins every file that qnet puts among another program's.
const Mark = "# qnet: "

// LeaveAlone is the file that has a program leave all of qnet's links alone, from
// the moment they appear; ok is false where the program has no such thing.
func LeaveAlone(p Program) (f File, ok bool) {
	f, ok = alone[p]
	return f, ok
}

// alone are the files. NetworkManager gets both of its ways: unmanaged-devices,
// which no command of a user overrides, but which an assignment in /etc replaces
// as a whole, and a section of its own for that case. networkd takes the first
// file that matches a link, in the order of their names, whatever their
// directory: "0-" comes before the usual "00-" and "05-".
var alone = map[Program]File{
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

// LetGo is the file that has networkd let go of one link, once it reads its
// configuration again: then it takes away what it configured there.
func LetGo(link string) File {
	return File{"/run/systemd/network/0-qnet-" + link + ".network", Mark + "the link is a port of VMs' bridge. Removed with that.\n" +
		"[Match]\nName=" + link + "\n\n[Link]\nUnmanaged=yes\n"}
}

// Advice tells the user what to do about a program that runs and cannot be told
// to leave qnet's links alone; "" where there is nothing to do.
func Advice(p Program) string {
	if p != ConnMan {
		return ""
	}
	return "ConnMan takes the taps of VMs for Ethernet links and offers them as services: add qn to NetworkInterfaceBlacklist in " +
		"/etc/connman/main.conf, for example NetworkInterfaceBlacklist=vmnet,vboxnet,virbr,ifb,ve-,vb-,veth,qn, and restart it"
}
