package profiles

import (
	"net/netip"
	"slices"
	"strings"
	"unicode"
)

// NamePattern is the regular expression that names of VMs and networks match.
const NamePattern = "^[a-z][a-z0-9-]{0,30}$"

// ValidName reports whether a VM or a network may have the name: a lower-case letter, then at
// most 30 lower-case letters, digits and hyphens. Such a name is one element of a path, one
// label of a DNS name (RFC 1035, 2.3.1), and needs no quotes in a shell.
func ValidName(s string) bool { return namePattern().MatchString(s) }

// maxLinkName is the longest name or alternative name of a link, in bytes (ALTIFNAMSIZ in
// linux/if.h, without the zero byte).
const maxLinkName = 127

// ValidLink reports whether a link may have the name, or the alternative name, after the rules
// of the kernel (dev_valid_name in net/core/dev.c). Such a name is one element of a path.
func ValidLink(s string) bool {
	odd := func(r rune) bool { return r == '/' || r == ':' || unicode.IsSpace(r) || !unicode.IsPrint(r) }
	return s != "" && len(s) <= maxLinkName && s != "." && s != ".." && !strings.ContainsFunc(s, odd)
}

// ValidSubnet reports whether a network may have the subnet: a private IPv4 prefix (RFC 1918)
// of 20 to 29 bits.
func ValidSubnet(p netip.Prefix) bool {
	private := func(r netip.Prefix) bool { return r.Contains(p.Addr()) }
	return p.Bits() >= minSubnet && p.Bits() <= maxSubnet && p == p.Masked() && slices.ContainsFunc(rfc1918, private)
}

// ValidBootFile reports whether DHCP can name the boot file: 1 to 127 printable ASCII
// characters without a space (RFC 2131, section 2).
func ValidBootFile(s string) bool {
	odd := func(r rune) bool { return r <= ' ' || r > '~' }
	return s != "" && len(s) <= 127 && !strings.ContainsFunc(s, odd)
}
