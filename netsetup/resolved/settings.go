package resolved

import (
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// Settings are a link's settings in systemd-resolved. A zero field changes nothing.
type Settings struct {
	Servers      []Server `json:"servers,omitempty"`
	Domains      []Domain `json:"domains,omitempty"`
	DefaultRoute *bool    `json:"default_route,omitempty"` // whether to ask the servers for names outside of all domains
	LLMNR        string   `json:"llmnr,omitempty"`         // "yes", "no", "resolve"
	MulticastDNS string   `json:"mdns,omitempty"`          // as LLMNR
	DNSOverTLS   string   `json:"dns_over_tls,omitempty"`  // "yes", "no", "opportunistic"
	DNSSEC       string   `json:"dnssec,omitempty"`        // "yes", "no", "allow-downgrade"
	Trust        []string `json:"trust,omitempty"`         // negative trust anchors
}

// Empty reports whether all fields are zero.
func (s Settings) Empty() bool { return reflect.ValueOf(s).IsZero() }

// Commands returns the commands that give a link the settings.
func (s Settings) Commands(link string) []string {
	var list []string
	add := func(verb string, words ...string) {
		list = append(list, strings.Join(append([]string{"resolvectl", verb, link}, words...), " "))
	}
	if s.Servers != nil {
		add("dns", each(s.Servers, Server.String)...)
	}
	if s.Domains != nil {
		add("domain", each(s.Domains, Domain.String)...)
	}
	if s.DefaultRoute != nil {
		add("default-route", strconv.FormatBool(*s.DefaultRoute))
	}
	for _, w := range [][2]string{{"llmnr", s.LLMNR}, {"mdns", s.MulticastDNS}, {"dnsovertls", s.DNSOverTLS}, {"dnssec", s.DNSSEC}} {
		if w[1] != "" {
			add(w[0], w[1])
		}
	}
	if s.Trust != nil {
		add("nta", s.Trust...)
	}
	return list
}

// Server is a name server.
type Server struct {
	Address netip.Addr `json:"address"`
	Port    uint16     `json:"port,omitempty"` // 0: 53, or 853 with TLS
	Name    string     `json:"name,omitempty"` // for TLS
}

// Domain is a search domain. With RoutingOnly, it only decides which link's servers
// systemd-resolved asks for its names.
type Domain struct {
	Name        string `json:"name"`
	RoutingOnly bool   `json:"routing_only,omitempty"`
}

func each[T any](list []T, word func(T) string) []string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = word(v)
	}
	return words
}

// String returns the server as resolvectl(1) takes it.
func (s Server) String() string {
	words := s.Address.String()
	if s.Port != 0 {
		words = netip.AddrPortFrom(s.Address, s.Port).String()
	}
	if s.Name != "" {
		words += "#" + s.Name
	}
	return words
}

// String returns the domain as resolvectl(1) takes it.
func (d Domain) String() string {
	words := d.Name
	if d.RoutingOnly {
		words = "~" + d.Name
	}
	return words
}

// call is one of the manager's methods with its arguments.
type call struct {
	method string
	args   []any
}

// server is a name server in D-Bus's form, (iayqs).
type server struct {
	Family  int32
	Address []byte
	Port    uint16
	Name    string
}

// domain is a domain in D-Bus's form, (sb).
type domain struct {
	Name        string
	RoutingOnly bool
}

// calls returns the calls that give a link the settings. Servers come last: a server
// gets no question before the domains and the default route say which ones it gets.
func (s Settings) calls(link int) []call {
	var list []call
	add := func(method string, arg any) { list = append(list, call{method, []any{int32(link), arg}}) }
	if s.Domains != nil {
		add("SetLinkDomains", convert(s.Domains, func(d Domain) domain { return domain(d) }))
	}
	if s.DefaultRoute != nil {
		add("SetLinkDefaultRoute", *s.DefaultRoute)
	}
	for _, w := range [][2]string{
		{"SetLinkLLMNR", s.LLMNR}, {"SetLinkMulticastDNS", s.MulticastDNS}, {"SetLinkDNSOverTLS", s.DNSOverTLS}, {"SetLinkDNSSEC", s.DNSSEC},
	} {
		if w[1] != "" {
			add(w[0], w[1])
		}
	}
	if s.Trust != nil {
		add("SetLinkDNSSECNegativeTrustAnchors", s.Trust)
	}
	if s.Servers != nil {
		add(s.serverCall())
	}
	return list
}

// serverCall uses SetLinkDNS, which versions before 246 know, unless a server has a
// port or a name.
func (s Settings) serverCall() (method string, arg any) {
	type old struct {
		Family  int32
		Address []byte
	}
	var plain []old
	var full []server
	simple := true
	for _, v := range s.Servers {
		family := int32(unix.AF_INET6)
		if v.Address.Is4() {
			family = unix.AF_INET
		}
		plain = append(plain, old{family, v.Address.AsSlice()})
		full = append(full, server{family, v.Address.AsSlice(), v.Port, v.Name})
		simple = simple && v.Port == 0 && v.Name == ""
	}
	if simple {
		return "SetLinkDNS", plain
	}
	return "SetLinkDNSEx", full
}

func convert[From, To any](list []From, one func(From) To) []To {
	out := make([]To, len(list))
	for i, v := range list {
		out[i] = one(v)
	}
	return out
}

// decode reads a link's properties. An older version lacks some.
func decode(properties map[string]dbus.Variant) (Settings, error) {
	var s Settings
	var servers []server
	var domains []domain
	var route bool
	for name, to := range map[string]any{
		"DNSEx": &servers, "Domains": &domains, "DefaultRoute": &route, "LLMNR": &s.LLMNR, "MulticastDNS": &s.MulticastDNS,
		"DNSOverTLS": &s.DNSOverTLS, "DNSSEC": &s.DNSSEC, "DNSSECNegativeTrustAnchors": &s.Trust,
	} {
		v, ok := properties[name]
		if !ok {
			continue
		}
		if err := dbus.Store([]any{v.Value()}, to); err != nil {
			return Settings{}, fmt.Errorf("read property %s of a link: %w", name, err)
		}
	}
	for _, v := range servers {
		if a, ok := netip.AddrFromSlice(v.Address); ok {
			s.Servers = append(s.Servers, Server{a, v.Port, v.Name})
		}
	}
	for _, d := range domains {
		s.Domains = append(s.Domains, Domain(d))
	}
	s.DefaultRoute = &route
	return s, nil
}

// without returns s without the settings that plain has, too.
func (s Settings) without(plain Settings) Settings {
	if *s.DefaultRoute == *plain.DefaultRoute && s.Servers == nil {
		s.DefaultRoute = nil
	}
	for _, w := range [][2]*string{
		{&s.LLMNR, &plain.LLMNR}, {&s.MulticastDNS, &plain.MulticastDNS}, {&s.DNSOverTLS, &plain.DNSOverTLS}, {&s.DNSSEC, &plain.DNSSEC},
	} {
		if *w[0] == *w[1] {
			*w[0] = ""
		}
	}
	if len(s.Trust) == 0 {
		s.Trust = nil
	}
	return s
}
