package server

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/dhcp"
	"github.com/qnet-vm/qnet/netsetup/dns"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
)

// startServices serves DHCP and DNS on a network with a prefix. If another program
// has port 53, the guests have no resolver, but the network stands.
func (s *server) startServices(ctx context.Context) error {
	plan := s.journal.Plan
	if !plan.Prefix.IsValid() {
		return nil
	}
	bridge, ok, err := s.host.Link(ctx, plan.Bridge)
	if err == nil && !ok {
		err = fmt.Errorf("serve DHCP: bridge %q is gone", plan.Bridge)
	}
	if err != nil {
		return err
	}
	names, err := s.listenDNS()
	domain := dns.Domain
	if err != nil {
		s.Note(s.about(fmt.Sprintf("network %s has no name server, so its guests get none: %v%s", s.place.Name, err, s.spec.Port53)))
		domain = ""
	}
	if err := s.startDHCP(bridge, domain); err != nil {
		if names != nil {
			err = errors.Join(err, names.Close())
		}
		return err
	}
	if names != nil { // it asks the DHCP server for names
		s.dns = names
		s.services.Go(names.Serve)
		s.upkeep.Resolver.Serve(bridge.Index, plan.Gateway)
	}
	return nil
}

func (s *server) startDHCP(bridge host.Link, domain string) error {
	leases := filepath.Join(s.stateDir, "leases", s.place.Name)
	if err := rundir.MakeState(s.stateDir, "leases"); err != nil {
		return fmt.Errorf("keep leases: %w", err)
	}
	plan := s.journal.Plan
	server, err := dhcp.New(dhcp.Config{
		Link: bridge.Index, MAC: bridge.MAC, Prefix: plan.Prefix, Address: plan.Gateway, MTU: plan.MTU,
		// A default route that leads nowhere would break guests with a second NIC.
		Router: plan.Network.Mode == profiles.NAT,
		Domain: domain, PXE: plan.Network.PXE, LeaseFile: leases, Log: s.log,
		Warn: func(text string) { s.Note(s.about(text)) },
	})
	if err == nil {
		err = server.Listen()
	}
	if err != nil {
		return err
	}
	s.dhcp = server
	s.services.Go(func() {
		if err := server.Serve(); err != nil {
			s.log.Warn("serve DHCP", "error", err) // the bridge is gone: the mender makes it anew
		}
	})
	return nil
}

func (s *server) listenDNS() (*dns.Server, error) {
	plan := s.journal.Plan
	server, err := dns.Listen(dns.Config{
		Link: plan.Bridge, Address: plan.Gateway, Prefix: plan.Prefix, Lookup: s.lookup, Reverse: s.reverse, Log: s.log,
	})
	if err != nil {
		return nil, err
	}
	if err := server.WithoutTCP(); err != nil {
		s.Note(s.about(fmt.Sprintf("names are served over UDP only: %v%s", err, s.spec.Port53)))
	}
	return server, nil
}

// RestartServices serves on a bridge that was made anew. server.changes is held.
func (s *server) RestartServices(ctx context.Context) error {
	s.stopServices()
	s.dns = nil
	if err := s.startServices(ctx); err != nil {
		return err
	}
	var errs []error
	for vm, m := range s.vms {
		errs = append(errs, s.reserveAgain(vm, m.ports))
	}
	return errors.Join(errs...)
}

// reserveAgain tells a new DHCP server the addresses that a VM's ports have.
func (s *server) reserveAgain(vm string, ports []keeper.Port) error {
	var errs []error
	for i := range ports {
		if p := &ports[i]; p.Address.IsValid() { // no copy: a watcher changes Seen
			_, err := s.dhcp.Reserve(p.MAC, p.Address, vm)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// hostName is how guests call the host.
const hostName = "host"

func (s *server) lookup(name string) []netip.Addr {
	if name == hostName {
		return []netip.Addr{s.journal.Plan.Gateway}
	}
	return s.dhcp.Lookup(name)
}

func (s *server) reverse(a netip.Addr) string {
	if a == s.journal.Plan.Gateway {
		return hostName
	}
	return s.dhcp.Reverse(a)
}

// stopServices closes DNS and DHCP and joins their goroutines. server.changes is held.
func (s *server) stopServices() {
	var errs []error
	if s.dns != nil {
		errs = append(errs, s.dns.Close())
	}
	if s.dhcp != nil {
		errs = append(errs, s.dhcp.Close())
	}
	s.services.Wait()
	if err := errors.Join(errs...); err != nil {
		s.log.Warn("stop services", "error", err)
	}
}
