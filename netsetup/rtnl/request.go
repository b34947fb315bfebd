package rtnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Request is one change of the host.
type Request struct {
	kind     uint16
	flags    netlink.HeaderFlags // besides NLM_F_REQUEST and NLM_F_ACK
	data     []byte
	op       string  // what it does, as errors begin
	ignored  []error // of the kernel: the wanted state is there
	optional bool    // no error of the kernel counts
}

// String returns what the request does, such as `add route 0.0.0.0/0 to "qn-lan"`.
func (r Request) String() string { return r.op }

// Optional returns the request such that it may fail without an error.
func (r Request) Optional() Request {
	r.optional = true
	return r
}

func (r Request) ignores(err error) bool {
	return r.optional || slices.ContainsFunc(r.ignored, func(e error) bool { return errors.Is(err, e) })
}

// AddAddress adds an address, as [Address.On] returns it, to its link, whose name is for
// errors. An address that is there gets the new lifetimes and flags.
//
//	ip addr replace ADDRESS dev LINK
func AddAddress(link string, a Address) Request {
	return Request{
		kind: unix.RTM_NEWADDR, flags: netlink.Create | netlink.Replace, data: a.Message,
		op: fmt.Sprintf("add address %s to %q", a.Prefix(), link),
	}
}

// ChangeAddress gives an address of the link other lifetimes and flags. The kernel tells
// its listeners (RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR) of it even if nothing differs.
//
//	ip addr change ADDRESS dev LINK
func ChangeAddress(link string, a Address) Request {
	return Request{
		kind: unix.RTM_NEWADDR, flags: netlink.Replace, data: a.Message,
		op: fmt.Sprintf("change address %s of %q", a.Prefix(), link),
	}
}

// DelAddress deletes an address of the link. It is no error if the address is gone.
//
//	ip addr del ADDRESS dev LINK
func DelAddress(link string, a Address) Request {
	return Request{
		kind: unix.RTM_DELADDR, data: a.Message, ignored: []error{unix.EADDRNOTAVAIL},
		op: fmt.Sprintf("delete address %s of %q", a.Prefix(), link),
	}
}

// AppendRoute adds a route by the link behind those that tie with it. It is no error if
// the route is there.
//
//	ip route append ROUTE
func AppendRoute(link string, r Route) Request {
	return addRoute(link, r, netlink.Create|netlink.Append)
}

// PrependRoute adds a route by the link before those that tie with it. It is no error if
// the route is there.
//
//	ip route prepend ROUTE
func PrependRoute(link string, r Route) Request { return addRoute(link, r, netlink.Create) }

// ReplaceRoute adds a route by the link in place of a like one.
//
//	ip route replace ROUTE
func ReplaceRoute(link string, r Route) Request {
	return addRoute(link, r, netlink.Create|netlink.Replace)
}

func addRoute(link string, r Route, flags netlink.HeaderFlags) Request {
	return Request{
		kind: unix.RTM_NEWROUTE, flags: flags, data: r.Message, ignored: []error{unix.EEXIST},
		op: fmt.Sprintf("add route %s to %q", r.Dst(), link),
	}
}

// DelRoute deletes a route by the link. It is no error if the route is gone.
//
//	ip route del ROUTE
func DelRoute(link string, r Route) Request {
	return Request{
		kind: unix.RTM_DELROUTE, data: r.Plain().Message, ignored: []error{unix.ESRCH},
		op: fmt.Sprintf("delete route %s of %q", r.Dst(), link),
	}
}

// ReplaceNeighbor sets an entry of the link's neighbor table.
//
//	ip neigh replace ADDRESS lladdr MAC dev LINK
func ReplaceNeighbor(link string, n Neighbor) Request {
	return Request{
		kind: unix.RTM_NEWNEIGH, flags: netlink.Create | netlink.Replace, data: n.Message,
		op: fmt.Sprintf("set neighbor %s of %q", n.Dst(), link),
	}
}

// AddRule adds a policy rule that names the link. It is no error if the rule is there.
//
//	ip rule add RULE
func AddRule(link string, r Rule) Request {
	return Request{
		kind: unix.RTM_NEWRULE, flags: netlink.Create | netlink.Excl, data: r.Message, ignored: []error{unix.EEXIST},
		op: fmt.Sprintf("add rule for %q", link),
	}
}

// DelRule deletes a policy rule that names the link. It is no error if the rule is gone.
//
//	ip rule del RULE
func DelRule(link string, r Rule) Request {
	return Request{
		kind: unix.RTM_DELRULE, data: r.Renamed(link, link).Message, ignored: []error{unix.ENOENT},
		op: fmt.Sprintf("delete rule of %q", link),
	}
}

// AddLink adds a link of that kind ("bridge"), down, with attributes of the link (IFLA_)
// and of its kind (IFLA_BR_). It is EEXIST if a link of that name is there.
//
//	ip link add NAME ... type KIND ...
func AddLink(name, kind string, attrs, ofKind []Attr) Request {
	attrs = append(slices.Clone(attrs), String(unix.IFLA_IFNAME, name),
		Nest(unix.IFLA_LINKINFO, Attr{unix.IFLA_INFO_KIND, []byte(kind)}, Nest(unix.IFLA_INFO_DATA, ofKind...)))
	return Request{
		kind: unix.RTM_NEWLINK, flags: netlink.Create | netlink.Excl, data: linkMessage(0, attrs...),
		op: fmt.Sprintf("add %s %q", kind, name),
	}
}

// SetLink sets attributes (IFLA_) of the link of that name.
//
//	ip link set NAME ...
func SetLink(name string, attrs ...Attr) Request {
	return setLink(linkMessage(0, append(attrs, String(unix.IFLA_IFNAME, name))...), fmt.Sprintf("set link %q", name))
}

// SetGroup puts the link with that index into a group of links.
//
//	ip link set LINK group GROUP
func SetGroup(link int, group uint32) Request {
	return setLink(linkMessage(link, Uint32(unix.IFLA_GROUP, group)), fmt.Sprintf("set group of link %d", link))
}

// SetMaster makes the link, by name and index, a port of the bridge with that index; 0 is
// no bridge.
//
//	ip link set LINK master BRIDGE
func SetMaster(name string, link, bridge int) Request {
	return setLink(linkMessage(link, Uint32(unix.IFLA_MASTER, uint32(bridge))), fmt.Sprintf("set master of %q", name))
}

// SetGenMode sets how the kernel makes IPv6 link-local addresses of the link, by name and
// index: IN6_ADDR_GEN_MODE_ of linux/if_link.h. The kernel adds or deletes none now.
//
//	ip link set LINK addrgenmode MODE
func SetGenMode(name string, link int, mode byte) Request {
	inet6 := Nest(unix.AF_INET6, Attr{unix.IFLA_INET6_ADDR_GEN_MODE, []byte{mode}})
	return setLink(linkMessage(link, Nest(unix.IFLA_AF_SPEC, inet6)), fmt.Sprintf("set addrgenmode of %q", name))
}

func setLink(message []byte, op string) Request {
	return Request{kind: unix.RTM_SETLINK, data: message, op: op}
}

// DelLink deletes the link with that index.
//
//	ip link del LINK
func DelLink(link int) Request {
	return Request{kind: unix.RTM_DELLINK, data: linkMessage(link), op: fmt.Sprintf("delete link %d", link)}
}

// DelGroup deletes all links of a group.
//
//	ip link del group GROUP
func DelGroup(group uint32) Request {
	return Request{
		kind: unix.RTM_DELLINK, data: linkMessage(0, Uint32(unix.IFLA_GROUP, group)), op: fmt.Sprintf("delete link group %d", group),
	}
}

// linkMessage returns struct ifinfomsg of the link with that index, 0 for none, and
// attributes.
func linkMessage(link int, attrs ...Attr) []byte {
	b := make([]byte, linkHeader)
	binary.NativeEndian.PutUint32(b[4:], uint32(link))
	return Append(b, attrs...)
}
