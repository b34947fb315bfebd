package host

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
)

// Defined is a network that another program has defined. It may be down: then no link or
// route shows it.
type Defined struct {
	Prefix netip.Prefix `json:"prefix"` // IPv4
	By     string       `json:"by"`     // such as `the network "default" of libvirt`
}

// definedNetworks reads the networks that files below root define: libvirt's, and the
// default bridge of Docker. Docker's other networks have links while Docker runs, and
// avoid the prefixes of the links that exist when they are made. A file that cannot be
// read defines nothing.
func definedNetworks(root string) []Defined {
	var list []Defined
	paths, _ := filepath.Glob(filepath.Join(root, "etc/libvirt/qemu/networks/*.xml"))
	for _, path := range paths {
		list = append(list, libvirtNetwork(path)...)
	}
	var docker struct {
		BIP string `json:"bip"`
	}
	if b, err := os.ReadFile(filepath.Join(root, "etc/docker/daemon.json")); err == nil && json.Unmarshal(b, &docker) == nil {
		if p, err := netip.ParsePrefix(docker.BIP); err == nil {
			list = append(list, Defined{p.Masked(), "the bridge of Docker"})
		}
	}
	return list
}

// libvirtNetwork reads the IPv4 prefixes of a definition (libvirt.org/formatnetwork.html).
func libvirtNetwork(path string) []Defined {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var network struct {
		Name string `xml:"name"`
		IPs  []struct {
			Address string `xml:"address,attr"`
			Netmask string `xml:"netmask,attr"`
			Prefix  int    `xml:"prefix,attr"`
		} `xml:"ip"`
	}
	if xml.Unmarshal(b, &network) != nil {
		return nil
	}
	var list []Defined
	for _, ip := range network.IPs {
		addr, err := netip.ParseAddr(ip.Address)
		bits := ip.Prefix
		if mask := net.ParseIP(ip.Netmask).To4(); mask != nil {
			bits, _ = net.IPMask(mask).Size()
		}
		if p := netip.PrefixFrom(addr, bits); err == nil && addr.Is4() && bits > 0 && p.IsValid() {
			list = append(list, Defined{p.Masked(), fmt.Sprintf("the network %q of libvirt", network.Name)})
		}
	}
	return list
}
