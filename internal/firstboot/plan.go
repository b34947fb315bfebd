package firstboot

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Plan is what a guest gets at its first boot, without its secrets.
type Plan struct {
	InstanceID string            `json:"instance_id"` // cloud-init does all again when it changes
	User       string            `json:"user"`        // account for logins
	Keys       int               `json:"keys"`        // that log in
	Documents  map[string]string `json:"documents"`   // by their names
}

// String returns lines of comments for a shell: what the guest gets, document by document.
func (p *Plan) String() string {
	var b strings.Builder
	keys := "keys"
	if p.Keys == 1 {
		keys = "key"
	}
	fmt.Fprintf(&b, "# first boot, instance %s: account %s, %d %s\n", p.InstanceID, p.User, p.Keys, keys)
	for _, name := range slices.Sorted(maps.Keys(p.Documents)) {
		b.WriteString("# " + name + ":\n")
		for line := range strings.Lines(p.Documents[name]) {
			b.WriteString("#   " + strings.TrimRight(line, "\n") + "\n")
		}
	}
	return b.String()
}
