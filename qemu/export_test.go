package qemu

import "os"

// WithKVM returns o with another device file in the place of /dev/kvm.
func (o StartOptions) WithKVM(path string) StartOptions {
	o.kvm = path
	return o
}

// NewOverlay makes an empty qcow2 image.
func NewOverlay(dir string, size int64) (*os.File, error) { return newOverlay(dir, size) }
