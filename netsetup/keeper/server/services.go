package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"

	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/dhcp"
	"github.com/qnet-vm/qnet/netsetup/dns"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/keeper/clerk"
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
	if err := s.startClerk(ctx, bridge, domain, names); err != nil {
		return err
	}
	if domain != "" {
		s.upkeep.Resolver.Serve(bridge.Index, plan.Gateway)
	}
	return nil
}

// startClerk opens the lease file and the DHCP socket, and has a clerk started that serves. It
// takes the sockets of DNS over.
func (s *server) startClerk(ctx context.Context, bridge host.Link, domain string, names dns.Sockets) error {
	leases := filepath.Join(s.stateDir, "leases", s.place.Name)
	if err := rundir.MakeState(s.stateDir, "leases"); err != nil {
		names.Close()
		return fmt.Errorf("keep leases: %w", err)
	}
	plan := s.journal.Plan
	more, err := s.openIPv6(bridge, domain)
	if err != nil {
		names.Close()
		return err
	}
	server, err := dhcp.New(dhcp.Config{Prefix: plan.Prefix, Address: plan.Gateway, LeaseFile: leases, Log: s.log})
	if err != nil {
		names.Close()
		more.close()
		return err
	}
	s.dhcp = server
	socket, err := dhcp.Open(bridge.Index, s.log)
	if err != nil {
		names.Close()
		more.close()
		return err
	}
	s.clerk, err = s.steward.Start(ctx, clerk.Config{
		Network: clerk.Network{
			Link: bridge.Index, MAC: bridge.MAC, Prefix: plan.Prefix, Address: plan.Gateway, MTU: plan.MTU,
			// A default route that leads nowhere would break guests with a second NIC.
			Router: plan.Network.Mode == profiles.NAT, Domain: domain, PXE: plan.Network.PXE,
			Prefix6: plan.Prefix6, Address6: plan.Gateway6, Router6: plan.Outward6, Cautious: s.hasLists(),
		},
		DHCP: socket, DHCP6: more.dhcp6, DNS: names, DNS6: more.names, LeaseFile: leases, Keeper: hearer{s, server}, Log: s.log,
	})
	s.naming.Store(s.clerk)
	return err
}

// hearer is whom a clerk's words are for.
type hearer struct {
	*server
	leases *dhcp.Server
}

// Kept keeps an address that a client has taken.
func (h hearer) Kept(client net.HardwareAddr, a netip.Addr) error {
	return h.leases.Remember(client, a)
}

// Warn tells the VMs' users.
func (h hearer) Warn(text string) { h.Note(h.about(text)) }

// Lost lets the keeper leave the network to the next one.
func (h hearer) Lost(err error) {
	select {
	case h.lost <- err:
	default: // it leaves already
	}
}

func (s *server) listenDNS() (dns.Sockets, error) {
	plan := s.journal.Plan
	sockets, err := dns.Open(dns.Config{Link: plan.Bridge, Address: plan.Gateway, Prefix: plan.Prefix})
	if err == nil && sockets.WithoutTCP != nil {
		s.Note(s.about(fmt.Sprintf("names are served over UDP only: %v%s", sockets.WithoutTCP, s.spec.Port53)))
	}
	return sockets, err
}

// RestartServices serves on a bridge that was made anew. server.changes is held.
func (s *server) RestartServices(ctx context.Context) error {
	s.stopServices()
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
	s.limit(ports)
	for i := range ports {
		if p := &ports[i]; p.Address.IsValid() { // no copy: a watcher changes Seen
			_, err := s.dhcp.Reserve(p.MAC, p.Address, vm)
			errs = append(errs, err)
			if err == nil {
				s.clerk.Reserve(p.MAC, p.Address, p.Address6, vm)
				s.tellSeen(p)
			}
		}
	}
	return errors.Join(errs...)
}

// stopServices ends the clerk, waits until its sockets are closed, and closes the lease file.
// server.changes is held.
func (s *server) stopServices() {
	s.clerk.End()
	s.clerk.Wait()
	s.clerk = nil
	s.naming.Store(nil)
	if s.dhcp == nil {
		return
	}
	if err := s.dhcp.Close(); err != nil {
		s.log.Warn("stop services", "error", err)
	}
}
