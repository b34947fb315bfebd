// Package failpoint marks the places at which tests make a process fail, panic or
// die. Outside of tests nothing is set, and a mark costs a nil check.
package failpoint

var hook func(point string) error

// Hit tells that the process has come to the point. What it returns is the
// caller's to treat as its own failure; it may also not return.
func Hit(point string) error {
	if hook == nil {
		return nil
	}
	return hook(point)
}

// Set makes f decide what happens at points. It is for the main function of a
// test binary, before anything else runs.
func Set(f func(point string) error) { hook = f }
