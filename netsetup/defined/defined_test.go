package defined

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestDefinedNetworks(t *testing.T) {
	root := t.TempDir()
	for path, text := range map[string]string{
		"etc/libvirt/qemu/networks/default.xml": `<network><name>default</name><bridge name='virbr0'/><ip address='192.168.122.1' netmask='255.255.255.0'><dhcp/></ip></network>`,
		"etc/libvirt/qemu/networks/lab.xml":     `<network><name>lab</name><ip family='ipv6' address='fd00::1' prefix='64'/><ip address='10.3.4.1' prefix='22'/></network>`,
		"etc/libvirt/qemu/networks/own.xml": `<?xml version="1.0"?>
<!-- <network><name>old</name><ip address='10.8.0.1' prefix='16'/></network>
-->
<network>
  <name>own</name>
  <ip
     netmask = "255.255.0.0" address="172.20.0.1" localPtr='yes'>
    <dhcp><range start='172.20.0.2' end='172.20.0.9'/><host mac='52:54:00:00:00:01' ip='10.7.0.1'/></dhcp>
  </ip>
  <dns><host ip='10.6.0.1'><hostname>x</hostname></host></dns>
  <route address='10.5.0.0' prefix='16' gateway='172.20.0.2'/>
</network>`,
		"etc/libvirt/qemu/networks/flat.xml": `<network><name>flat</name><bridge name='br0'/></network>`,
		"etc/libvirt/qemu/networks/bad.xml":  `<network><ip address='10.9.9.1' netmask='x'/>`,
		"etc/docker/daemon.json":             `{"bip": "10.50.0.1/16", "mtu": 1400}`,
	} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := []Network{
		{netip.MustParsePrefix("192.168.122.0/24"), `the network "default" of libvirt`},
		{netip.MustParsePrefix("10.3.4.0/22"), `the network "lab" of libvirt`},
		{netip.MustParsePrefix("172.20.0.0/16"), `the network "own" of libvirt`},
		{netip.MustParsePrefix("10.50.0.0/16"), "the bridge of Docker"},
	}
	if got := Read(root); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := Read(t.TempDir()); got != nil {
		t.Errorf("of nothing: %v", got)
	}
}
