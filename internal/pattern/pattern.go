// Package pattern compiles regular expressions when they are first used. A launch starts
// three processes of qnet, and each would compile all of them in its first milliseconds, to
// use but a few.
package pattern

import (
	"regexp"
	"sync"
)

// Of returns a function that returns the regular expression, which the first call compiles.
// It panics where the text is none (RE2; pkg.go.dev/regexp/syntax). Goroutines may share it.
func Of(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}
