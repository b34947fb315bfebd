//go:build !amd64

package virtiofs

// legacy: younger machines have no calls with a path alone.
var legacy []uint32
