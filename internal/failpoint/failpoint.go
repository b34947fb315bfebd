// Package failpoint marks the places at which tests make a process fail, panic or
// die. Outside of tests no hook is set, and a mark costs a nil check. Hit may be called
// concurrently.
package failpoint

var hook func(point string) error

// Hit says that the process has come to the point. The caller treats the error as a
// failure of its own. Under test, Hit may also panic or not return.
func Hit(point string) error {
	if hook == nil {
		return nil
	}
	return hook(point)
}

// Set makes f decide what happens at points; nil ends that. The main function of a test
// binary calls it before anything else runs.
func Set(f func(point string) error) { hook = f }
