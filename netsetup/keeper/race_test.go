//go:build race

package keeper

// patience is how much longer than promised things may take: the race detector
// slows processes down several times.
const patience = 4
