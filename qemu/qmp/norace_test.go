//go:build !race

package qmp_test

// raceFactor is how much more memory the detector of races takes.
const raceFactor = 1
