//go:build race

package keeper_test

// patience is how much longer than promised things may take on a busy machine:
// the race detector slows processes down several times.
const patience = 6

// manyRoutes are those of a routing daemon.
const manyRoutes = 3000
