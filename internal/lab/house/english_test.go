package house

import (
	"regexp"
	"strings"
	"testing"
)

// dialect are words that hide the actor. CONTRIBUTING.md shows what to write instead.
var dialect = regexp.MustCompile(`(?i)\b(whoever|somebody|someone|is told|are told|hears of|of which nobody)\b`)

// Comments name the actor.
func TestPlainEnglish(t *testing.T) {
	for _, f := range Files(t) {
		for _, c := range f.Comments {
			text := strings.ReplaceAll(c.Text(), "\n", " ")
			if found := dialect.FindAllString(text, -1); found != nil && f.Dir() != "internal/lab/house" {
				t.Errorf("%s: name the actor in place of %q", f.Position(c), found)
			}
		}
	}
}
