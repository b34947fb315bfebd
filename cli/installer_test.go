package cli

import (
	"fmt"
	"image/png"
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
// profile, by PXE from a server on the host, and from a CD.
func TestInstaller(t *testing.T) {
	if os.Getenv("QNET_INSTALLER") == "" {
		t.Skip("make installer runs it")
	}
	const files = installerFiles
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
		"CD": func(l *testHost) string {
			return "[[disk]]\nfile = \"" + installerCD(l, "console=ttyS0") + "\"\ntype = \"cdrom\"\n[boot]\norder = [\"cdrom\", \"disk\"]\n" + blankDisk + "[[nic]]\n"
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

// The installer's first menu stands on a screen, too, and keys reach it.
func TestInstallerOnAScreen(t *testing.T) {
	if os.Getenv("QNET_INSTALLER") == "" {
		t.Skip("make installer runs it")
	}
	lab.Require(t, lab.File(installerFiles+"linux", "installer-files"))
	inLab(t, func(l *testHost) {
		l.must("run", "-d", l.profile("di", "memory = \"1GiB\"\naccel = \"tcg\"\n[display]\ntype = \"vnc\"\n"+
			"[[disk]]\nfile = \""+installerCD(l, "console=tty0")+"\"\ntype = \"cdrom\"\n[boot]\norder = [\"cdrom\"]\n[[nic]]\nmode = \"none\"\n"))
		lab.Eventually(t, installerTime, "a menu in the installer's colours", func() bool { return l.blue("di") > 0.3 })
		before := l.must("screenshot", "di", "-")
		l.must("type", "di", "<down>")
		lab.Eventually(t, time.Minute, "the key moves the menu's bar", func() bool { return l.must("screenshot", "di", "-") != before })
		l.must("stop", "--force", "di")
	})
}

// installerFiles are what the installer boots from.
const installerFiles = ".cache/installer/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/"

// blankDisk is one that an installer would install to.
const blankDisk = "[[disk]]\nfile = \"new.qcow2\"\ncreate = true\nsize = \"4GiB\"\n"

// installerCD makes a CD that boots the installer, whose menu is on the console that is named.
func installerCD(l *testHost, console string) string {
	l.Helper()
	tree, iso, loader := filepath.Join(l.dir, "tree"), filepath.Join(l.dir, "di.iso"), lab.Module(".cache/installer/usr/lib")
	lab.Sh(l, "mkdir -p "+tree+"/isolinux; cp "+lab.Module(installerFiles)+"/linux "+lab.Module(installerFiles)+"/initrd.gz "+tree+
		"; cp "+loader+"/ISOLINUX/isolinux.bin "+loader+"/syslinux/modules/bios/ldlinux.c32 "+tree+`/isolinux
printf 'SERIAL 0 115200\nDEFAULT install\nLABEL install\nKERNEL /linux\nAPPEND initrd=/initrd.gz `+console+`\n' > `+tree+`/isolinux/isolinux.cfg
genisoimage -quiet -o `+iso+` -b isolinux/isolinux.bin -c isolinux/boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table `+tree)
	return iso
}

// blue is how much of a VM's screen has the blue of the installer's background.
func (l *testHost) blue(name string) float64 {
	l.Helper()
	picture, err := png.Decode(strings.NewReader(l.must("screenshot", name, "-")))
	if err != nil {
		l.Fatal(err)
	}
	size, found := picture.Bounds(), 0
	for y := range size.Dy() {
		for x := range size.Dx() {
			if r, g, b, _ := picture.At(x, y).RGBA(); r < 0x2000 && g < 0x2000 && b > 0x8000 {
				found++
			}
		}
	}
	return float64(found) / float64(size.Dx()*size.Dy())
}
