//go:build !race

package keeper_test

const (
	patience   = 2
	manyRoutes = 20000
)
