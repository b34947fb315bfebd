package keeper

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/qnet-vm/qnet/netsetup/dhcp"
	"github.com/qnet-vm/qnet/netsetup/dns"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/profiles"
)

// startServices serves DHCP and DNS on a network with a prefix. A port 53 that
// somebody else has costs the guests their resolver, not the network.
func (k *keeper) startServices() error {
	plan := k.journal.Plan
	if !plan.Prefix.IsValid() {
		return nil
	}
	bridge, ok, err := k.host.Link(context.TODO(), plan.Bridge)
	if err == nil && !ok {
		err = fmt.Errorf("serve DHCP: bridge %q is gone", plan.Bridge)
	}
	if err != nil {
		return err
	}
	names, err := k.listenDNS()
	domain := dns.Domain
	if err != nil {
		k.note(fmt.Sprintf("network %s has no name server, so its guests get none: %v%s", k.network, err, k.spec.Port53))
		domain = ""
	}
	if err := k.startDHCP(bridge, domain); err != nil {
		if names != nil {
			err = errors.Join(err, names.Close())
		}
		return err
	}
	if names != nil { // it asks the DHCP server for names
		k.dns = names
		go names.Serve()
		k.resolved = tellResolved(bridge.Index, plan.Gateway, func(err error) { k.note(err.Error()) })
	}
	return nil
}

func (k *keeper) startDHCP(bridge host.Link, domain string) error {
	leases := filepath.Join(k.stateDir, "leases", k.network)
	if err := os.MkdirAll(filepath.Dir(leases), 0o755); err != nil {
		return fmt.Errorf("keep leases: %w", err)
	}
	plan := k.journal.Plan
	server, err := dhcp.New(dhcp.Config{
		Link: bridge.Index, MAC: bridge.MAC, Prefix: plan.Prefix, Address: plan.Gateway, MTU: plan.MTU,
		// A default route that leads nowhere would break guests with a second NIC.
		Router: plan.Network.Mode == profiles.NAT,
		Domain: domain, PXE: plan.Network.PXE, LeaseFile: leases, Warn: k.note, Log: k.log,
	})
	if err == nil {
		err = server.Listen()
	}
	if err != nil {
		return err
	}
	k.dhcp = server
	go func() {
		if err := server.Serve(); err != nil {
			k.log.Warn("serve DHCP", "error", err) // the bridge is gone: the guard sees to it
		}
	}()
	return nil
}

func (k *keeper) listenDNS() (*dns.Server, error) {
	plan := k.journal.Plan
	server, err := dns.Listen(dns.Config{
		Link: plan.Bridge, Address: plan.Gateway, Prefix: plan.Prefix, Lookup: k.lookup, Reverse: k.reverse, Log: k.log,
	})
	if err != nil {
		return nil, err
	}
	if err := server.WithoutTCP(); err != nil {
		k.note(fmt.Sprintf("names are served over UDP only: %v%s", err, k.spec.Port53))
	}
	return server, nil
}

// restartServices serves on a bridge that was made anew.
func (k *keeper) restartServices() error {
	k.stopServices()
	k.resolved, k.dns = nil, nil
	if err := k.startServices(); err != nil {
		return err
	}
	var errs []error
	for vm, m := range k.vms {
		errs = append(errs, k.reserveAgain(vm, m.ports))
	}
	return errors.Join(errs...)
}

// reserveAgain tells a new DHCP server the addresses that a VM's ports have.
func (k *keeper) reserveAgain(vm string, ports []PortInfo) error {
	var errs []error
	for _, p := range ports {
		if p.Address.IsValid() {
			_, err := k.dhcp.Reserve(p.MAC, p.Address, vm)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// hostName is how guests call the host.
const hostName = "host"

func (k *keeper) lookup(name string) []netip.Addr {
	if name == hostName {
		return []netip.Addr{k.journal.Plan.Gateway}
	}
	return k.dhcp.Lookup(name)
}

func (k *keeper) reverse(a netip.Addr) string {
	if a == k.journal.Plan.Gateway {
		return hostName
	}
	return k.dhcp.Reverse(a)
}

func (k *keeper) stopServices() {
	var errs []error
	if k.resolved != nil {
		errs = append(errs, k.resolved.forget())
	}
	if k.dns != nil {
		errs = append(errs, k.dns.Close())
	}
	if k.dhcp != nil {
		errs = append(errs, k.dhcp.Close())
	}
	if err := errors.Join(errs...); err != nil {
		k.log.Warn("stop services", "error", err)
	}
}
