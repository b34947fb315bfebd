package programs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/profiles"
)

// never refuses no mode.
func never(profiles.Mode) string { return "" }

// dockerProgram is a dockerd with its own files, sockets and control groups, and with a
// container that keeps running.
type dockerProgram struct {
	dir  string
	stop func()
}

// Docker is the real dockerd and containerd, with one container, a web server.
func Docker() Program {
	d := &dockerProgram{}
	return Program{
		Name: "Docker",
		Needs: []lab.Need{
			lab.Root, lab.Program("dockerd"), lab.Program("containerd"), lab.Program("docker"), lab.Program("busybox"),
		},
		Start:  d.start,
		Reload: d.restart,
		Works:  d.works,
		State: func(t testing.TB) string {
			return filters(t) + d.docker(t, "network ls --format '{{.Name}} {{.Driver}}'")
		},
		Version: func() string { return version("Docker", "dockerd --version | sed 's/.*version //; s/,.*//'") },
		Refuses: never,
	}
}

// filters lists every packet filter without counters, and the switches of br_netfilter
// and forwarding. It leaves out the table of firewalld, which is in the State of that.
func filters(t testing.TB) string {
	t.Helper()
	return lab.Sh(t, "nft -s list ruleset 2> /dev/null | awk '/^table / { other = !/^table inet firewalld / } other'; sysctl net.bridge net.ipv4.ip_forward net.ipv4.conf.all.forwarding\n"+lab.LegacyRules)
}

func (d *dockerProgram) start(t testing.TB) {
	t.Helper()
	mountCgroups(t)
	// As they are when dockerd loads the module.
	lab.Sh(t, "[ ! -d /proc/sys/net/bridge ] || sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1")
	var err error
	if d.dir, err = os.MkdirTemp("", "docker"); err != nil { //nolint:usetesting // a socket's path must be short
		t.Fatal(err)
	}
	t.Cleanup(func() {
		lab.Try(fmt.Sprintf("for m in $(grep -o ' %s/[^ ]*' /proc/mounts); do umount -l $m; done; rmdir /sys/fs/cgroup/*/%s/* /sys/fs/cgroup/*/%s", d.dir, d.group(), d.group()))
		os.RemoveAll(d.dir)
	})
	d.run(t)
	t.Cleanup(func() { // before it stops, because its containers outlive it
		lab.Try(d.command("rm -f still"))
		d.stop()
	})
	image := filepath.Join(d.dir, "image/bin")
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	lab.Sh(t, fmt.Sprintf(`mkdir -p %s; cp %s %s/busybox; ln -s busybox %s/ping
tar -C %s/image -c . | %s`, image, busybox, image, image, d.dir, d.command("import - busybox")))
	d.runContainer(t)
}

// group is the control group that has those of its containers, in each hierarchy.
func (d *dockerProgram) group() string { return "qnet-" + filepath.Base(d.dir) }

func (d *dockerProgram) run(t testing.TB) {
	t.Helper()
	d.stop = lab.Daemon(t, "dockerd", "--data-root", d.dir+"/data", "--exec-root", d.dir+"/exec", "--pidfile", d.dir+"/pid",
		"-H", "unix://"+d.dir+"/sock", "--log-level", "error", "--storage-driver", "vfs", "--cgroup-parent", "/"+d.group())
	lab.Eventually(t, 30*time.Second, "dockerd", func() bool {
		_, err := lab.Try(d.command("version"))
		return err == nil
	})
}

func (d *dockerProgram) runContainer(t testing.TB) {
	t.Helper()
	d.docker(t, "run -d --name still --stop-signal KILL busybox /bin/busybox httpd -f -p 80 -h /bin")
}

// restart does what systemctl restart docker does, and starts the container again.
func (d *dockerProgram) restart(t testing.TB) {
	t.Helper()
	d.stop()
	d.run(t)
	d.docker(t, "start still")
}

func (d *dockerProgram) command(args string) string {
	return "docker -H unix://" + d.dir + "/sock " + args
}

func (d *dockerProgram) docker(t testing.TB, args string) string {
	t.Helper()
	return lab.Sh(t, d.command(args))
}

// works checks that the container reaches the outside, and the outside not the
// container.
func (d *dockerProgram) works(testing.TB) error {
	if out, err := lab.Try(d.command("exec still /bin/ping -c1 -W1 203.0.113.1")); err != nil {
		return fmt.Errorf("a container of Docker's does not reach the outside: %w: %s", err, out)
	}
	address, err := lab.Try(d.command("inspect -f '{{.NetworkSettings.IPAddress}}' still"))
	if err != nil {
		return err
	}
	lab.Try("ip -n inet route replace 172.17.0.0/16 via 192.0.2.10")
	if lab.Fetches("inet", strings.TrimSpace(address)+":80") {
		return errors.New("the outside reaches a port of a container that Docker keeps from it")
	}
	return nil
}

// mountCgroups mounts the hierarchies of control groups, which a new /sys does not have:
// each of version 1 that the kernel has, or that of version 2.
func mountCgroups(t testing.TB) {
	t.Helper()
	lab.Sh(t, `cd /sys/fs/cgroup
v1=$(awk '!/^#/ && $2 > 0 { h[$2] = h[$2] (h[$2] ? "," : "") $1 } END { for (i in h) print h[i] }' /proc/cgroups)
if [ -z "$v1" ]; then
	mount -t cgroup2 none /sys/fs/cgroup
	exit
fi
mount -t tmpfs cgroups /sys/fs/cgroup
cd /sys/fs/cgroup
for c in $v1; do mkdir $c; mount -t cgroup -o $c none $c; done
mkdir systemd; mount -t cgroup -o none,name=systemd none systemd`)
}
