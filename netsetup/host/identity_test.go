package host

import (
	"net"
	"testing"
)

func nic(index int, name, kind string, mac, perm byte) Link {
	l := Link{Index: index, Name: name, Kind: kind}
	if mac != 0 {
		l.MAC = net.HardwareAddr{2, 0, 0, 0, 0, mac}
	}
	if perm != 0 {
		l.PermMAC = net.HardwareAddr{2, 0, 0, 0, 0, perm}
	}
	return l
}

func TestFindLinks(t *testing.T) {
	eth0, eth1 := nic(2, "eth0", "device", 2, 2), nic(3, "eth1", "device", 3, 3)
	veth, tun, br0 := nic(4, "veth", "veth", 4, 0), nic(5, "tun0", "tun", 0, 0), nic(6, "br0", "bridge", 6, 0)
	ids := []Identity{eth0.Identity(), eth1.Identity(), veth.Identity(), tun.Identity(), br0.Identity()}
	const gone, remade = "", "+"
	for name, c := range map[string]struct {
		links []Link
		want  [5]string // the name of each of ids, with "+" if it was made again
	}{
		"all the same": {[]Link{eth0, eth1, veth, tun, br0}, [5]string{"eth0", "eth1", "veth", "tun0", "br0"}},
		"none":         {nil, [5]string{}},
		"swapped":      {[]Link{nic(2, "eth1", "device", 2, 2), nic(3, "eth0", "device", 3, 3)}, [5]string{"eth1", "eth0"}},
		"renamed, and another MAC": {
			[]Link{nic(2, "lan", "device", 77, 2), nic(4, "dev", "veth", 4, 0), nic(5, "wg0", "tun", 0, 0), nic(6, "lan1", "bridge", 78, 0)},
			[5]string{"lan", gone, "dev", "wg0", "lan1"},
		},
		"another MAC":          {[]Link{nic(4, "veth", "veth", 77, 0)}, [5]string{2: "veth"}},
		"plugged in again":     {[]Link{nic(12, "lan", "device", 2, 2), nic(13, "eth0", "device", 3, 3)}, [5]string{"lan" + remade, "eth0" + remade}},
		"made again":           {[]Link{nic(12, "tun0", "tun", 0, 0), nic(13, "veth", "veth", 99, 0)}, [5]string{2: "veth" + remade, 3: "tun0" + remade}},
		"name of another's":    {[]Link{nic(2, "eth1", "device", 2, 2)}, [5]string{"eth1"}},
		"index of another's":   {[]Link{nic(4, "mine", "veth", 99, 0), nic(2, "sit", "sit", 2, 2), nic(3, "usb", "device", 98, 98)}, [5]string{}},
		"index of qnet's link": {[]Link{{Index: 5, Name: "tun0", Kind: "tun", Alias: "qnet:dev/web/0"}}, [5]string{}},
	} {
		for i, f := range FindLinks(ids, c.links) {
			got := f.Link.Name
			if f.Remade {
				got += remade
			}
			if got != c.want[i] || f.OK != (got != gone) {
				t.Errorf("%s: %s is %q, want %q", name, ids[i].Name, got, c.want[i])
			}
		}
	}
}
