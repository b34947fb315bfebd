package profiles

import (
	"slices"
	"strings"
)

// reserved are names that mean another machine than a VM to the programs that look them
// up, with the reason.
var reserved = map[string]string{
	"host":           "names the host itself: host.qnet",
	"qnet":           "is the domain of all VMs",
	"localhost":      "names each machine itself (RFC 6761, section 6.3)",
	"localdomain":    "is the domain of localhost",
	"broadcasthost":  "stands in hosts(5) of guests",
	"ip6-localhost":  "stands in hosts(5) of guests",
	"ip6-loopback":   "stands in hosts(5) of guests",
	"ip6-localnet":   "stands in hosts(5) of guests",
	"ip6-allnodes":   "stands in hosts(5) of guests",
	"ip6-allrouters": "stands in hosts(5) of guests",
	"invalid":        "never has an address (RFC 6761, section 6.4)",
	"wpad":           "is where browsers look for the settings of a proxy",
	"isatap":         "is where Windows looks for a router of IPv6",
}

// Reserved says why no VM and no client of DHCP may have a name, as the end of a sentence
// that begins with the name; "" if it may. The name is in lower case. A name that reads
// as an address or a number is none (RFC 1123, section 2.1).
func Reserved(name string) string {
	if why := reserved[name]; why != "" {
		return why
	}
	digits, isHex := strings.CutPrefix(name, "0x")
	if digits != "" && strings.Trim(digits, "0123456789") == "" || isHex && strings.Trim(digits, "0123456789abcdef") == "" {
		return "is a number, which programs read as an address"
	}
	return ""
}

// ReservedNames returns the names that Reserved refuses, but for numbers, sorted.
func ReservedNames() []string {
	var names []string
	for name := range reserved {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
