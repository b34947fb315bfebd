//go:build !race

package keeper

const patience = 2
