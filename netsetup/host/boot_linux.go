package host

import (
	"fmt"
	"os"
	"strings"
)

// BootID returns the identifier of this boot of the kernel, a UUID (random(4)).
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// NetNS returns the identifier of the calling process's network namespace, such as
// "net:[4026531840]" (namespaces(7)). Another boot may use it again.
func NetNS() (string, error) {
	s, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return "", fmt.Errorf("read network namespace: %w", err)
	}
	return s, nil
}
