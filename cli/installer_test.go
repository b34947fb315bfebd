package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
)

// installerTime is how long Debian's installer may take to its first menu under TCG.
const installerTime = 10 * time.Minute

// Debian's installer gets to its first menu on the serial console: by its kernel in the
// profile, and by PXE from a server on the host.
func TestInstaller(t *testing.T) {
	if os.Getenv("QNET_INSTALLER") == "" {
		t.Skip("make installer runs it")
	}
	const files = ".cache/installer/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/"
	lab.Require(t, lab.File(files+"linux", "installer-files"), lab.Program("dnsmasq"))
	for name, profile := range map[string]func(l *testHost) string{
		"kernel": func(l *testHost) string {
			return fmt.Sprintf("[boot]\nkernel = %q\ninitrd = %q\ncmdline = \"console=ttyS0\"\n[[nic]]\n", put(l, lab.Module(files+"linux"), l.dir), put(l, lab.Module(files+"initrd.gz"), l.dir))
		},
		"PXE": func(l *testHost) string {
			tftp := filepath.Join(l.dir, "tftp")
			lab.Sh(l, "mkdir -p "+tftp+"/pxelinux.cfg; cd "+lab.Module(files)+"; cp pxelinux.0 linux initrd.gz boot-screens/ldlinux.c32 "+tftp+"; chmod -R a+rX "+tftp+`
printf 'SERIAL 0 115200\nDEFAULT install\nLABEL install\nKERNEL linux\nAPPEND initrd=initrd.gz console=ttyS0\n' > `+tftp+"/pxelinux.cfg/default")
			background(l, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--port=0", "--pid-file=", "--enable-tftp", "--tftp-root="+tftp)
			lab.Eventually(l, 10*time.Second, "the server listens", func() bool { return strings.Contains(read(l.T, "/proc/self/net/udp6"), ":0045 ") })
			l.prepared()
			return "[[nic]]\nmode = \"nat\"\n[network.nat]\nsubnet = \"10.57.0.0/24\"\n[network.nat.pxe]\nfile = \"pxelinux.0\"\n"
		},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *testHost) {
				p := l.start("run", l.profile("di", "memory = \"1GiB\"\naccel = \"tcg\"\n"+profile(l)))
				p.says("Select a language", installerTime)
				l.must("stop", "--force", "di")
				p.end(30 * time.Second)
			})
		})
	}
}
