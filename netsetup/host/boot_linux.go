package host

import (
	"fmt"
	"os"
	"strings"
)

// BootID identifies this boot of the kernel (random(4)).
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// NetNS identifies the process's network namespace, "net:[4026531840]".
func NetNS() (string, error) {
	s, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return "", fmt.Errorf("read network namespace: %w", err)
	}
	return s, nil
}
