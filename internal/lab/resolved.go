package lab

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// resolvedDir is where `make resolved` unpacks systemd-resolved. Installed, the package
// would change the machine's own resolver.
const resolvedDir = ".cache/resolved"

// Resolved runs a system bus and systemd-resolved in the test's namespaces, as the
// host's only name server, and puts resolvectl into the PATH.
func Resolved(t testing.TB) (stop, start func()) {
	t.Helper()
	root := Module("")
	program := filepath.Join(root, resolvedDir, "lib/systemd/systemd-resolved")
	Require(t, Root, Program(program)) // it changes to a user of its own
	Bus(t)
	MountEmpty(t, "/run/systemd")
	dir := t.TempDir()
	libs := filepath.Join(root, resolvedDir, "usr/lib/x86_64-linux-gnu/systemd")
	Sh(t, `cat /etc/passwd > `+dir+`/passwd; cat /etc/group > `+dir+`/group
echo "systemd-resolve:x:991:991::/:/bin/false" >> `+dir+`/passwd; echo "systemd-resolve:x:991:" >> `+dir+`/group
mount --bind `+dir+`/passwd /etc/passwd; mount --bind `+dir+`/group /etc/group
echo nameserver 127.0.0.53 > `+dir+`/resolv.conf; mount --bind `+dir+`/resolv.conf /etc/resolv.conf
install -d -o 991 -g 991 /run/systemd/resolve
printf '#!/bin/sh\nLD_LIBRARY_PATH=`+libs+` exec `+filepath.Join(root, resolvedDir, "usr/bin/resolvectl")+` "$@"\n' > `+dir+`/resolvectl
chmod +x `+dir+`/resolvectl`)
	// t.Setenv would forbid parallel tests. This process runs one test.
	if err := os.Setenv("PATH", dir+":"+os.Getenv("PATH")); err != nil { //nolint:usetesting // see above
		t.Fatal(err)
	}
	end := func() {}
	start = func() {
		t.Helper()
		end = Daemon(t, "env", "LD_LIBRARY_PATH="+libs, "SYSTEMD_LOG_LEVEL=debug", program)
		// It answers before it has its name on the bus.
		Eventually(t, 30*time.Second, "systemd-resolved on the bus", func() bool {
			_, err := Try("resolvectl status")
			return err == nil
		})
	}
	start()
	return func() { end() }, start
}
