// Package defined reads which networks other programs have defined, also those that are down. It
// only reads, and needs no rights.
package defined

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"github.com/qnet-vm/qnet/internal/pattern"
)

// Network is a network that another program has defined. It may be down: then no link or
// route shows it.
type Network struct {
	Prefix netip.Prefix `json:"prefix"` // IPv4
	By     string       `json:"by"`     // such as `the network "default" of libvirt`
}

// Read reads the networks that files below root define: libvirt's, and the
// default bridge of Docker. Docker's other networks have links while Docker runs, and
// avoid the prefixes of the links that exist when they are made. A file that cannot be
// read defines nothing.
func Read(root string) []Network {
	var list []Network
	paths, _ := filepath.Glob(filepath.Join(root, "etc/libvirt/qemu/networks/*.xml"))
	for _, path := range paths {
		list = append(list, libvirtNetwork(path)...)
	}
	var docker struct {
		BIP string `json:"bip"`
	}
	if b, err := os.ReadFile(filepath.Join(root, "etc/docker/daemon.json")); err == nil && json.Unmarshal(b, &docker) == nil {
		if p, err := netip.ParsePrefix(docker.BIP); err == nil {
			list = append(list, Network{p.Masked(), "the bridge of Docker"})
		}
	}
	return list
}

// What qnet reads of libvirt's definitions. A decoder of XML would be 100 KB of qnet for this.
var (
	xmlComment   = pattern.Of(`(?s)<!--.*?-->`)
	xmlName      = pattern.Of(`<name>([^<]*)</name>`)
	xmlIP        = pattern.Of(`<ip\s([^>]*)>`)
	xmlAttribute = pattern.Of(`(\w+)\s*=\s*(?:'([^']*)'|"([^"]*)")`)
)

// libvirtNetwork reads the IPv4 prefixes of a definition (libvirt.org/formatnetwork.html).
func libvirtNetwork(path string) []Network {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	b = xmlComment().ReplaceAll(b, nil)
	name := ""
	if found := xmlName().FindSubmatch(b); found != nil {
		name = string(found[1])
	}
	var list []Network
	for _, ip := range xmlIP().FindAllSubmatch(b, -1) {
		is := map[string]string{}
		for _, a := range xmlAttribute().FindAllSubmatch(ip[1], -1) {
			is[string(a[1])] = string(a[2]) + string(a[3])
		}
		addr, err := netip.ParseAddr(is["address"])
		bits, _ := strconv.Atoi(is["prefix"]) // 0 without one
		if mask := net.ParseIP(is["netmask"]).To4(); mask != nil {
			bits, _ = net.IPMask(mask).Size()
		}
		if p := netip.PrefixFrom(addr, bits); err == nil && addr.Is4() && bits > 0 && p.IsValid() {
			list = append(list, Network{p.Masked(), fmt.Sprintf("the network %q of libvirt", name)})
		}
	}
	return list
}
