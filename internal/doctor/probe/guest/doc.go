// Package guest is a synthetic VM. It joins a network as any VM does, through the
// network's keeper, and gets a tap, an address and rules as they do. It plays the
// guest itself, frame by frame, in place of QEMU: DHCP, ARP, ping, TCP and DNS.
//
// Package probe tries networks with it, and tests use it as a guest without a machine.
//
// songgao/water carries the frames over the tap that the keeper made. The package
// changes nothing on the host: the keeper does that, and undoes it when the VM leaves
// or its process dies.
package guest
