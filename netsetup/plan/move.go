package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/host"
)

// moveNotes tell what a move does not take along: packet filters of others that
// name the NIC, by which nothing comes in or goes out any more.
func moveNotes(f host.Facts, up host.Link, bridge string) []string {
	var rules []string
	for _, t := range f.Filters.Tables {
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				if namesLink(r.Text, up.Name) {
					rules = append(rules, fmt.Sprintf("%s %s %s: %s", t.Engine, t.Name, c.Name, r.Text))
				}
			}
		}
	}
	if len(rules) == 0 {
		return nil
	}
	more := ""
	if len(rules) > 1 {
		more = fmt.Sprintf(", and %d more", len(rules)-1)
	}
	return []string{fmt.Sprintf("packets come in by %s and not by %s while a VM runs, so rules that name %s do not match them: %q%s; give %s the like if they matter",
		bridge, up.Name, up.Name, rules[0], more, bridge)}
}

// namesLink reports whether a rule's text holds the link's name as a word.
func namesLink(text, link string) bool {
	return slices.ContainsFunc(strings.Fields(text), func(word string) bool { return strings.Trim(word, `"{},`) == link })
}
